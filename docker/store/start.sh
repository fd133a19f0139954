#!/bin/sh
# Starts SeaweedFS with its S3 door open to one key, which comes from the environment and is kept in memory only.
set -eu
umask 077
cat > /run/store/s3.json <<JSON
{"identities": [{"name": "npuq",
  "credentials": [{"accessKey": "${AWS_ACCESS_KEY_ID:?}", "secretKey": "${AWS_SECRET_ACCESS_KEY:?}"}],
  "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
JSON
# A bucket takes several volumes at once: as many as the disk holds, of 1 GiB.
exec weed server -dir=/data -volume.max=0 -master.volumeSizeLimitMB=1024 -ip.bind=0.0.0.0 \
    -s3 -s3.port=8333 -s3.config=/run/store/s3.json "$@"
