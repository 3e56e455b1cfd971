//go:build !linux

package main

import (
	"github.com/sandtest/go-sandtest/sandtest"
)

type signals struct{}

func watchSignals() signals { return signals{} }

func (signals) pass(*sandtest.Process) {}

func (signals) stop() {}
