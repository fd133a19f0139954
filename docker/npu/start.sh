#!/bin/bash
# Starts npuq with what the CANN toolkit's own script sets: libraries, operators, the path of atc.
set -eo pipefail
toolkit="${ASCEND_TOOLKIT_HOME:-/usr/local/Ascend/ascend-toolkit/latest}"
for script in "${toolkit}/set_env.sh" "${toolkit%/*}/set_env.sh" /usr/local/Ascend/cann/set_env.sh; do
    if [[ -r "${script}" ]]; then
        # shellcheck disable=SC1090
        source "${script}"
        break
    fi
done
driver=/usr/local/Ascend/driver/lib64
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+${LD_LIBRARY_PATH}:}${driver}:${driver}/common:${driver}/driver"
exec /opt/npuq/bin/npuq "$@"
