#!/bin/sh
# Makes the bucket; one that is there stays as it is.
set -eu
echo "s3.bucket.create -name ${NPUQ_BUCKET:?}" | weed shell -master=store:9333
