package kubelet

import (
	"fmt"
	"hash/fnv"
	"net"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"kube-proxy-replacement/local/node-simulator/internal/world"
)

// longestMessage is how much of a container's log a kubelet takes into its status.
const longestMessage = 2048

// view is how a pod is at a moment; status turns it into what a kubelet reports.
type view struct {
	phase         corev1.PodPhase
	initializedAt time.Time // zero: init containers aren't through
	readyAt       time.Time // zero: not ready
	doneAt        time.Time // zero: it still runs
	container     func(c *corev1.Container) corev1.ContainerStatus
	initContainer func(c *corev1.Container) corev1.ContainerStatus
}

func (k *Kubelet) status(pod *corev1.Pod, r *record, v view) *corev1.PodStatus {
	status := pod.Status.DeepCopy()
	status.Phase = v.phase
	status.StartTime = ptr.To(second(r.acceptedAt))
	k.addAddresses(status, pod, v)

	status.ContainerStatuses, status.InitContainerStatuses = nil, nil
	var unready []string
	for i := range pod.Spec.InitContainers {
		status.InitContainerStatuses = append(status.InitContainerStatuses, v.initContainer(&pod.Spec.InitContainers[i]))
	}
	for i := range pod.Spec.Containers {
		of := v.container(&pod.Spec.Containers[i])
		status.ContainerStatuses = append(status.ContainerStatuses, of)
		if !of.Ready {
			unready = append(unready, of.Name)
		}
	}
	notReady := fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " "))
	created := v.phase != corev1.PodPending || !v.initializedAt.IsZero()
	setCondition(status, corev1.PodReadyToStartContainers, created && v.doneAt.IsZero(), r.acceptedAt, "", "")
	switch {
	case !v.doneAt.IsZero():
		reason := "PodCompleted"
		if v.phase == corev1.PodFailed {
			reason = "PodFailed"
		}
		setCondition(status, corev1.PodInitialized, true, v.initializedAt, reason, "")
		setCondition(status, corev1.PodReady, false, v.doneAt, reason, "")
		setCondition(status, corev1.ContainersReady, false, v.doneAt, reason, "")
	case v.readyAt.IsZero():
		setCondition(status, corev1.PodInitialized, !v.initializedAt.IsZero() || len(pod.Spec.InitContainers) == 0, r.acceptedAt, "", "")
		setCondition(status, corev1.PodReady, false, r.acceptedAt, "ContainersNotReady", notReady)
		setCondition(status, corev1.ContainersReady, false, r.acceptedAt, "ContainersNotReady", notReady)
	default:
		setCondition(status, corev1.PodInitialized, true, v.initializedAt, "", "")
		setCondition(status, corev1.PodReady, true, v.readyAt, "", "")
		setCondition(status, corev1.ContainersReady, true, v.readyAt, "", "")
	}
	return status
}

func (k *Kubelet) addAddresses(status *corev1.PodStatus, pod *corev1.Pod, v view) {
	node := k.World.Node(pod.Spec.NodeName)
	status.HostIP = world.InternalIP(node)
	status.HostIPs = []corev1.HostIP{{IP: status.HostIP}}
	if v.phase == corev1.PodPending && v.initializedAt.IsZero() && !pod.Spec.HostNetwork {
		return
	}
	status.PodIP = status.HostIP
	if !pod.Spec.HostNetwork {
		status.PodIP = addressIn(node, string(pod.UID))
	}
	status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
}

// addressIn is an address at the end of the node's range, where kwok doesn't get to.
func addressIn(node *corev1.Node, text string) string {
	base, network, err := net.ParseCIDR(node.Spec.PodCIDR)
	if err != nil {
		return ""
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(text))
	ones, bits := network.Mask.Size()
	size := uint32(1) << (bits - ones)
	ip := base.Mask(network.Mask).To4()
	offset := size - 2 - hash.Sum32()%(size/4)
	return net.IPv4(ip[0], ip[1], ip[2]+byte(offset>>8), ip[3]+byte(offset)).String()
}

func setCondition(status *corev1.PodStatus, kind corev1.PodConditionType, is bool, since time.Time, reason, message string) {
	value := corev1.ConditionFalse
	if is {
		value = corev1.ConditionTrue
	}
	wanted := corev1.PodCondition{Type: kind, Status: value, LastTransitionTime: second(since), Reason: reason, Message: message}
	for i := range status.Conditions {
		if status.Conditions[i].Type == kind {
			wanted.ObservedGeneration = status.Conditions[i].ObservedGeneration
			status.Conditions[i] = wanted
			return
		}
	}
	status.Conditions = append(status.Conditions, wanted)
}

func waiting(c *corev1.Container, reason string) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, Started: ptr.To(false),
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}},
	}
}

func running(c *corev1.Container, r *record, since time.Time, ready bool) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, ImageID: imageID(c), ContainerID: containerID(c, r),
		Ready: ready, Started: ptr.To(true),
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: second(since)}},
	}
}

func terminated(c *corev1.Container, r *record, code int, message string, since, at time.Time) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, ImageID: imageID(c), ContainerID: containerID(c, r), Started: ptr.To(false),
		State: corev1.ContainerState{Terminated: ending(c, r, code, message, since, at)},
	}
}

func crashing(c *corev1.Container, r *record, restarts int, message string, since, at time.Time) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, ImageID: imageID(c), ContainerID: containerID(c, r), Started: ptr.To(false),
		RestartCount: int32(restarts),
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
			Reason:  "CrashLoopBackOff",
			Message: fmt.Sprintf("back-off 10s restarting failed container=%s pod=%s", c.Name, r.uid),
		}},
		LastTerminationState: corev1.ContainerState{Terminated: ending(c, r, 1, message, since, at)},
	}
}

func ending(c *corev1.Container, r *record, code int, message string, since, at time.Time) *corev1.ContainerStateTerminated {
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	if over := len(message) - longestMessage; over > 0 {
		message = message[over:]
	}
	return &corev1.ContainerStateTerminated{
		ExitCode: int32(code), Reason: reason, Message: message, ContainerID: containerID(c, r),
		StartedAt: second(since), FinishedAt: second(at),
	}
}

// throughInit is the status of an init container that has done its work, or goes on beside the pod's.
func throughInit(c *corev1.Container, r *record, since time.Time) corev1.ContainerStatus {
	if ptr.Deref(c.RestartPolicy, "") == corev1.ContainerRestartPolicyAlways {
		return running(c, r, since, true)
	}
	status := terminated(c, r, 0, "", since, since)
	status.Ready = true
	return status
}

func containerID(c *corev1.Container, r *record) string {
	return "containerd://" + hex64(string(r.uid)+c.Name)
}

func imageID(c *corev1.Container) string {
	return strings.SplitN(c.Image, "@", 2)[0] + "@sha256:" + hex64(c.Image)
}

func hex64(text string) string {
	var out strings.Builder
	for i := range 4 {
		hash := fnv.New64a()
		_, _ = fmt.Fprint(hash, i, text)
		fmt.Fprintf(&out, "%016x", hash.Sum64())
	}
	return out.String()
}

// second is the time as the API keeps it, so that a status read back equals the one written.
func second(t time.Time) metav1.Time { return metav1.NewTime(t.Truncate(time.Second)) }
