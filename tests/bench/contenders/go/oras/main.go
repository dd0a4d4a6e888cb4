// The client of the ORAS project, of which there are neither Debian packages nor binaries where only package
// registries answer.
package main

import (
	"os"

	"oras.land/oras/cmd/oras/root"
)

func main() {
	if root.New().Execute() != nil {
		os.Exit(1)
	}
}
