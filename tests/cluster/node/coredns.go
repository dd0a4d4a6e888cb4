package main

import (
	"flag"
	"os"

	"github.com/coredns/caddy"
	_ "github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
)

// dns is CoreDNS with the few plugins that a cluster needs.
func dns() {
	// Not the global flags: CoreDNS has a conf there too, that only its own main reads.
	flags := flag.NewFlagSet("coredns", flag.ExitOnError)
	path := flags.String("conf", "", "path of the Corefile")
	flags.Parse(os.Args[1:]) //nolint:errcheck // it exits

	text, err := os.ReadFile(*path)
	if err != nil {
		fail(err)
	}
	caddy.AppName, caddy.Quiet = "CoreDNS", true
	caddy.TrapSignals()
	instance, err := caddy.Start(caddy.CaddyfileInput{Contents: text, Filepath: *path, ServerTypeName: "dns"})
	if err != nil {
		fail(err)
	}
	instance.Wait()
}
