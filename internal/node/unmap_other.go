//go:build !linux

package node

func unmapFile() {}
