# Installs the package $1, as root. None of its services is left running, and none is touched that ran before.
set -eu
exec >&2 # The standard output is for whoever evaluates what `broker start` prints.
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1

# The daemons a RabbitMQ package brings run as users of their own.
service_processes() {
    for process in /proc/[0-9]*; do
        case $(stat -c %U "$process" 2>/dev/null) in
            rabbitmq | epmd) echo "${process#/proc/}" ;;
        esac
    done
}

apt_install() {
    apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$1"
}

# Debian's hook against services starting. One that is there already has its own reasons and stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

before=" $(service_processes | tr '\n' ' ') "
# The package lists may be absent (a fresh container) or name versions the archive no longer has.
if ! apt_install "$1"; then
    apt-get update -q
    apt_install "$1"
fi

# Something may have started all the same: erlang-base asks systemd directly.
for process in $(service_processes); do
    case $before in
        *" $process "*) ;;
        *) kill "$process" || true ;;
    esac
done
