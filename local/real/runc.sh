#!/bin/sh
# runc, for a machine that hasn't CAP_SYS_RESOURCE to give: containers ask for it (Cilium's agent does), and runc
# would fail. It's taken out of a new container's settings and of those of what is run in one later (exec).
strip() {
	[ -f "$1" ] && sed -i -e 's/"CAP_SYS_RESOURCE",//g' -e 's/,"CAP_SYS_RESOURCE"//g' -e 's/"CAP_SYS_RESOURCE"//g' "$1"
}
before=
for word in "$@"; do
	case "$before" in
	--bundle | -b) strip "$word/config.json" ;;
	--process | -p) strip "$word" ;;
	esac
	before=$word
done
exec /usr/sbin/runc "$@"
