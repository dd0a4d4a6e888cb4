// The container runtime of the node, and ctr, its client by hand: chosen by the first argument, as the parts of
// Kubernetes are. A module of its own, so that it is built with the libraries it was tested with.
package main

import (
	"context"
	"fmt"
	"os"

	_ "github.com/containerd/containerd/v2/cmd/containerd/builtins"
	"github.com/containerd/containerd/v2/cmd/containerd/command"
	"github.com/containerd/containerd/v2/cmd/ctr/app"
	"github.com/urfave/cli/v3"
)

var parts = map[string]func() *cli.Command{
	"containerd": command.App,
	"ctr":        app.New,
}

func main() {
	if len(os.Args) < 2 || parts[os.Args[1]] == nil {
		fail("the first argument must be containerd or ctr")
	}
	name := os.Args[1]
	if err := parts[name]().Run(context.Background(), os.Args[1:]); err != nil {
		fail(name+":", err)
	}
}

func fail(what ...any) {
	fmt.Fprintln(os.Stderr, what...)
	os.Exit(1)
}
