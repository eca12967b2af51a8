//go:build tools

// Package tools names the program whose version go.mod fixes.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
