#!/bin/sh
# Starts Redis with one user, who may do what Celery needs and nothing else; the default user is off.
# The rules go to memory only (/run is a tmpfs), the password as its hash.
set -eu
umask 077
hash=$(printf %s "${NPUQ_REDIS_PASSWORD:?}" | sha256sum | cut -d' ' -f1)
cat > /run/redis/users.acl <<ACL
user default off
user npuq on #${hash} ~npuq.* ~npuq:* ~_kombu.binding* ~unacked* -@all +@connection +@transaction +@blocking +@list +@hash +@sortedset +@set +@string +evalsha +script|load +script|exists +del +exists +expire +pexpire +type +info +time +select +client|setname +client|setinfo +hello -@dangerous +info
ACL
exec redis-server --aclfile /run/redis/users.acl --dir /data --appendonly yes --appendfsync everysec \
    --maxmemory-policy noeviction --protected-mode yes "$@"
