// One program that is every part of a Kubernetes node, chosen by its first argument or by the name it is
// called by: the tests need a real cluster on machines where no binaries can be downloaded.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	_ "time/tzdata" // time zones of CronJobs

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	internals "k8s.io/kubernetes/pkg/kubelet"
)

// Each command registers feature gates and flags when it is made, so only the chosen one may be.
var parts = map[string]func(){
	"apiserver":          func() { run(apiserver.NewAPIServerCommand()) },
	"controller-manager": func() { run(controllers.NewControllerManagerCommand()) },
	"coredns":            dns,
	"etcd":               store,
	"kubectl":            kubectl,
	"kubelet":            kubeletHere,
	"proxy":              func() { run(proxy.NewProxyCommand()) },
	"scheduler":          func() { run(scheduler.NewSchedulerCommand()) },
}

func main() {
	part, found := parts[filepath.Base(os.Args[0])]
	if !found && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		part, found = parts[os.Args[0]]
	}
	if !found {
		names := make([]string, 0, len(parts))
		for name := range parts {
			names = append(names, name)
		}
		sort.Strings(names)
		fail(fmt.Errorf("the first argument must be one of: %s", strings.Join(names, ", ")))
	}
	part()
}

// kubeletHere keeps also those links to logs in the cluster's folder that it has no setting for.
func kubeletHere() {
	internals.ContainerLogsDir = os.Getenv("CONTAINER_LOGS")
	run(kubelet.NewKubeletCommand(context.Background()))
}

func run(command *cobra.Command) {
	os.Exit(cli.Run(command))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
