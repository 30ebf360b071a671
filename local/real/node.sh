#!/bin/bash
# A node: first put into cgroups and namespaces of its own, then its process 1, with which all of it ends.
# From the environment: NODE, FOLDER, ADDRESS, GROUP, CONTROLLERS, KUBELET, LOWER (the folders, joined by colons, that
# its root is made of), SHARED (folders, one a line, that are seen in it where they are), RUN (containerd and kubelet
# wait for this file).
set -eu

if [ "${1:-}" != inside ]; then
	for controller in $CONTROLLERS; do
		echo $$ >"/sys/fs/cgroup/$controller/$GROUP/cgroup.procs"
	done
	exec unshare --net --mount --uts --cgroup --pid --fork --kill-child "$0" inside
fi

# A root of its own: nothing of the machine's is in it but devices, kernel modules and what is shared.
root=$FOLDER/root
mkdir -p "$root" "$FOLDER/over" "$FOLDER/work"
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$FOLDER/over,workdir=$FOLDER/work" "$root"
mount --rbind /dev "$root/dev"
[ ! -d /usr/lib/modules ] || mount --bind -o ro /usr/lib/modules "$root/usr/lib/modules"
while read -r folder; do
	mkdir -p "$root$folder"
	mount --bind "$folder" "$root$folder"
done <<<"$SHARED"
mkdir -p "$root/machine"
cd "$root"
pivot_root . machine
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
hash -r
mount -t proc proc /proc
umount --lazy /machine
rmdir /machine
# Cilium hands mounts on to the node, which must share them for that.
mount --make-rshared /
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
echo "$NODE" | tee /etc/hostname >/proc/sys/kernel/hostname
printf '127.0.0.1 localhost\n%s %s\n' "$ADDRESS" "$NODE" >/etc/hosts
echo "$NODE" | md5sum | cut -c-32 >/etc/machine-id
mkdir -p /run/lock /var/lib/containerd /var/lib/kubelet /opt/cni/bin /etc/cni/net.d
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
# A packet for a Service's address that nothing translates goes on to the next router. The client isn't told to go there
# itself from then on: its way leads through this node, as through a load balancer.
echo 0 >/proc/sys/net/ipv4/conf/all/send_redirects
echo 0 >/proc/sys/net/ipv4/conf/eth0/send_redirects
[ ! -f /proc/sys/net/bridge/bridge-nf-call-iptables ] || echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables

# As systemd does on other machines: a kubelet that asks a containerd which isn't ready yet ends, and is started again.
again() {
	while :; do
		"$@" || true
		sleep 0.2
	done
}
again containerd --config "$FOLDER/containerd.toml" >>"$FOLDER/containerd.log" 2>&1 &
until [ -S /run/containerd/containerd.sock ]; do sleep 0.05; done
again "$KUBELET" --config="$FOLDER/kubelet.yaml" --kubeconfig="$FOLDER/kubelet.kubeconfig" --hostname-override="$NODE" \
	--node-ip="$ADDRESS" --v=2 >>"$FOLDER/kubelet.log" 2>&1 &
wait
