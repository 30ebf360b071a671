#!/bin/bash
# A node: first put into cgroups and namespaces of its own, then its process 1, with which all of it ends.
# From the environment: NODE, FOLDER, ADDRESS, GROUP, CONTROLLERS, RUN (containerd and kubelet wait for this file).
set -eu

if [ "${1:-}" != inside ]; then
	for controller in $CONTROLLERS; do
		echo $$ >"/sys/fs/cgroup/$controller/$GROUP/cgroup.procs"
	done
	exec unshare --net --mount --uts --cgroup --pid --fork --kill-child "$0" inside
fi

hostname "$NODE"
mount --make-rprivate /
# Cilium hands mounts on to the node, which must share them for that.
mount --make-rshared /
for name in etc opt var usr; do
	mkdir -p "$FOLDER/over/$name/upper" "$FOLDER/over/$name/work"
	mount -t overlay overlay -o "lowerdir=/$name,upperdir=$FOLDER/over/$name/upper,workdir=$FOLDER/over/$name/work" "/$name"
done
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
for controller in $CONTROLLERS; do
	mkdir "/sys/fs/cgroup/$controller"
	case $controller in
	unified) mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified ;;
	systemd) mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd ;;
	*) mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller" ;;
	esac
done
mkdir -p /run/lock /var/lib/containerd /var/lib/kubelet /usr/lib/modules /opt/cni/bin /etc/cni/net.d
# containerd's snapshots are overlays themselves, which can't lie on one.
mount --bind "$FOLDER/containerd" /var/lib/containerd
mount --bind "$FOLDER/kubelet" /var/lib/kubelet
for plugin in bridge host-local loopback portmap; do
	ln -sf "/usr/lib/cni/$plugin" "/opt/cni/bin/$plugin"
done
[ ! -f "$FOLDER/cni.conflist" ] || cp "$FOLDER/cni.conflist" /etc/cni/net.d/10-bridge.conflist

until [ -f "$RUN" ]; do sleep 0.05; done
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
echo 0 >/proc/sys/net/ipv4/conf/default/rp_filter
echo 0 >/proc/sys/net/ipv4/conf/eth0/rp_filter
[ ! -f /proc/sys/net/bridge/bridge-nf-call-iptables ] || echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables

containerd --config "$FOLDER/containerd.toml" >>"$FOLDER/containerd.log" 2>&1 &
until [ -S /run/containerd/containerd.sock ]; do sleep 0.05; done
"$KUBELET" --config="$FOLDER/kubelet.yaml" --kubeconfig="$FOLDER/kubelet.kubeconfig" --hostname-override="$NODE" \
	--node-ip="$ADDRESS" --v=2 >>"$FOLDER/kubelet.log" 2>&1 &
wait
