// The servers behind the real cluster's Services, and those who ask them.
module kube-proxy-replacement/local/traffic

go 1.26.0

require golang.org/x/net v0.49.0
