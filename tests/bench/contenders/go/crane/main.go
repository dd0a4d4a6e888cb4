// crane, the client of go-containerregistry, of which there are neither Debian packages nor binaries where only
// package registries answer.
package main

import (
	"os"

	"github.com/google/go-containerregistry/cmd/crane/cmd"
)

func main() {
	if cmd.Root.Execute() != nil {
		os.Exit(1)
	}
}
