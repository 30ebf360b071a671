package kernel

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Source is where Services and their endpoints are read.
type Source interface {
	Services() []*corev1.Service
	EndpointSlices() []*discoveryv1.EndpointSlice
}

// Endpoint is an address that a Service's port leads to.
type Endpoint struct {
	IP   string
	Port int32
	Node string
}

// Address is the endpoint as IP:PORT.
func (e Endpoint) Address() string { return net.JoinHostPort(e.IP, strconv.Itoa(int(e.Port))) }

// ServicePort is one port of a Service as kube-proxy routes it.
type ServicePort struct {
	Namespace, Service, PortName string
	Protocol                     string // lower case
	ClusterIP                    string
	Port, NodePort               int32
	ExternalIPs, LoadBalancerIPs []string
	InternalLocal, ExternalLocal bool
	HealthCheckNodePort          int32
	AffinitySeconds              int32 // 0: no session affinity
	Endpoints                    []Endpoint
}

// Name is what kube-proxy calls the port in its rules' comments.
func (p *ServicePort) Name() string {
	if p.PortName == "" {
		return p.Namespace + "/" + p.Service
	}
	return p.Namespace + "/" + p.Service + ":" + p.PortName
}

// Routing turns Services and endpoints into what kube-proxy would write, once for all nodes.
type Routing struct {
	source Source

	mu      sync.Mutex
	stale   bool
	current []ServicePort
}

// NewRouting returns the Routing of what source says.
func NewRouting(source Source) *Routing { return &Routing{source: source, stale: true} }

// Changed says that a Service or an endpoint has changed.
func (r *Routing) Changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stale = true
}

// Current is what the API server says now. The slice is shared and never changed.
func (r *Routing) Current() []ServicePort {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stale {
		r.stale = false
		r.current = servicePorts(r.source.Services(), r.source.EndpointSlices())
	}
	return r.current
}

func servicePorts(services []*corev1.Service, endpoints []*discoveryv1.EndpointSlice) []ServicePort {
	byService := map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	for _, slice := range endpoints {
		if slice.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		key := types.NamespacedName{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
		byService[key] = append(byService[key], slice)
	}
	var ports []ServicePort
	for _, service := range services {
		ip := net.ParseIP(service.Spec.ClusterIP)
		if service.Spec.Type == corev1.ServiceTypeExternalName || ip.To4() == nil {
			continue
		}
		of := byService[types.NamespacedName{Namespace: service.Namespace, Name: service.Name}]
		for _, port := range service.Spec.Ports {
			ports = append(ports, servicePort(service, port, of))
		}
	}
	slices.SortFunc(ports, func(a, b ServicePort) int {
		return cmp.Or(cmp.Compare(a.Name(), b.Name()), cmp.Compare(a.Protocol, b.Protocol))
	})
	return ports
}

func servicePort(service *corev1.Service, port corev1.ServicePort, endpoints []*discoveryv1.EndpointSlice) ServicePort {
	result := ServicePort{
		Namespace:           service.Namespace,
		Service:             service.Name,
		PortName:            port.Name,
		Protocol:            strings.ToLower(string(port.Protocol)),
		ClusterIP:           service.Spec.ClusterIP,
		Port:                port.Port,
		NodePort:            port.NodePort,
		ExternalIPs:         service.Spec.ExternalIPs,
		InternalLocal:       policyIs(service.Spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyLocal),
		ExternalLocal:       service.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		HealthCheckNodePort: service.Spec.HealthCheckNodePort,
	}
	if affinity := service.Spec.SessionAffinityConfig; affinity != nil && affinity.ClientIP != nil {
		result.AffinitySeconds = *affinity.ClientIP.TimeoutSeconds
	}
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if ingress.IP != "" {
			result.LoadBalancerIPs = append(result.LoadBalancerIPs, ingress.IP)
		}
	}
	for _, slice := range endpoints {
		for _, target := range slice.Ports {
			if target.Port == nil || target.Name == nil || *target.Name != port.Name {
				continue
			}
			for _, endpoint := range slice.Endpoints {
				if endpoint.Conditions.Ready != nil && !*endpoint.Conditions.Ready {
					continue
				}
				for _, address := range endpoint.Addresses {
					found := Endpoint{IP: address, Port: *target.Port}
					if endpoint.NodeName != nil {
						found.Node = *endpoint.NodeName
					}
					result.Endpoints = append(result.Endpoints, found)
				}
			}
		}
	}
	slices.SortFunc(result.Endpoints, func(a, b Endpoint) int { return cmp.Compare(a.Address(), b.Address()) })
	return result
}

func policyIs(policy *corev1.ServiceInternalTrafficPolicy, wanted corev1.ServiceInternalTrafficPolicy) bool {
	return policy != nil && *policy == wanted
}
