package command

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// saver is iptables-save or ip6tables-save over nf_tables.
func saver(ipv6 bool) program {
	return func(r *Runner, pod *corev1.Pod, args []string) Result {
		table, counters := "", false
		for i := 0; i < len(args); i++ {
			value, inline := strings.CutPrefix(args[i], "--table=")
			switch {
			case inline:
				table = value
			case (args[i] == "-t" || args[i] == "--table") && i+1 < len(args):
				i++
				table = args[i]
			case args[i] == "-c" || args[i] == "--counters":
				counters = true
			default:
				return Result{Code: 2, Err: fmt.Sprintf("iptables-save: unrecognized option '%s'\n", args[i])}
			}
		}
		text, found := r.state(pod.Spec.NodeName).Save(ipv6, table, counters)
		if !found {
			return Result{Code: 1, Err: fmt.Sprintf("Table `%s' does not exist\n", table)}
		}
		return Result{Out: text}
	}
}

// nft is the part of nftables' program that deals with kube-proxy's tables.
func nft(r *Runner, pod *corev1.Pod, args []string) Result {
	line := strings.Join(args, " ")
	var out strings.Builder
	for _, statement := range strings.Split(line, ";") {
		words := strings.Fields(statement)
		switch {
		case len(words) == 0:
		case strings.Join(words, " ") == "list tables":
			out.WriteString("table " + strings.Join(r.state(pod.Spec.NodeName).NFTTables(), "\ntable ") + "\n")
		case len(words) == 4 && words[1] == "table":
			text, ok := r.nftTable(pod.Spec.NodeName, words[0], words[2], words[3])
			if !ok {
				return Result{Code: 1, Err: fmt.Sprintf("Error: No such file or directory\n%s\n%s%s\n", line,
					strings.Repeat(" ", len(line)-len(words[3])), strings.Repeat("^", len(words[3])))}
			}
			out.WriteString(text)
		default:
			return Result{Code: 1, Err: "Error: syntax error, unexpected string\n" + line + "\n"}
		}
	}
	return Result{Out: out.String()}
}

// nftTable lists, adds or deletes one table; ok is false when it isn't there. Of the tables here only
// kube-proxy's can be changed, and adding one that is there changes nothing.
func (r *Runner) nftTable(node, verb, family, name string) (text string, ok bool) {
	text, found := r.state(node).NFTTable(family)
	switch {
	case verb == "add":
		return "", true
	case name != "kube-proxy":
		return "", false
	case verb == "delete":
		r.Kernels.DeleteNFT(node, family)
		return "", true
	}
	return text, found
}
