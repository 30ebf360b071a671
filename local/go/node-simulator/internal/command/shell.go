package command

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// The shell knows the one line that an agent is asked by, and nothing else: two functions, then the parts, each with
// its name. See components/kube_proxy_replacement/cluster/asking.py, which writes it.
var (
	functions = regexp.MustCompile(`^end\(\) \{ printf '\\n(.*?): %s %s\\n' "\$1" "\$\?"; printf '\\n(.*?): %s\\n' "\$1" >&2; \}; ` +
		`own\(\) \{ grep -cE '(.*?)'; \}; `)
	part = regexp.MustCompile(`^(?:\{ \{ )?([^;{}|']+); end '([^']+)'(?: >&3; \} \| own; \} 3>&1; end '([^']+)')?(?:; |$)`)
)

const (
	commandNotFound = 127
	wrongSyntax     = 2
)

func shell(r *Runner, pod *corev1.Pod, args []string) Result {
	line := strings.TrimPrefix(strings.Join(args, " "), "-c ")
	found := functions.FindStringSubmatch(line)
	if found == nil {
		return Result{Code: wrongSyntax, Err: "sh: the simulated shell knows an agent's one line only, not: " + line + "\n"}
	}
	own, err := regexp.Compile(found[3])
	if err != nil {
		return Result{Code: wrongSyntax, Err: "grep: " + err.Error() + "\n"}
	}
	var out, complaint strings.Builder
	end := func(name string, code int) {
		fmt.Fprintf(&out, "\n%s: %s %d\n", found[1], name, code)
		fmt.Fprintf(&complaint, "\n%s: %s\n", found[2], name)
	}
	for rest := line[len(found[0]):]; rest != ""; {
		its := part.FindStringSubmatch(rest)
		if its == nil {
			return Result{Code: wrongSyntax, Err: "sh: syntax error: " + rest + "\n"}
		}
		rest = rest[len(its[0]):]
		words, name, count := strings.Fields(its[1]), its[2], its[3]
		result := r.inShell(pod, words)
		complaint.WriteString(result.Err)
		if count == "" {
			out.WriteString(result.Out)
			end(name, result.Code)
			continue
		}
		end(name, result.Code)
		lines := 0
		for text := range strings.Lines(result.Out) {
			if own.MatchString(strings.TrimSuffix(text, "\n")) {
				lines++
			}
		}
		fmt.Fprintf(&out, "%d\n", lines)
		if lines > 0 {
			end(count, 0)
		} else {
			end(count, 1)
		}
	}
	return Result{Out: out.String(), Err: complaint.String()}
}

// inShell runs a program of the agent's image, as a shell does.
func (r *Runner) inShell(pod *corev1.Pod, words []string) Result {
	if run, found := agentPrograms[path.Base(words[0])]; found {
		return run(r, pod, words[1:])
	}
	return Result{Code: commandNotFound, Err: fmt.Sprintf("sh: 1: %s: not found\n", words[0])}
}
