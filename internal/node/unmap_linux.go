package node

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// unmapFile gives the pages of the program's file back that only the start has needed: tables of types and functions, and what the kernel
// maps around each page that is touched. Pages that are needed after all come back from the page cache, or the file, as at the start. Only what
// cannot have been written to is given back. Where the system does not show its mappings nothing happens.
func unmapFile() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		// FROM-TO rwxp OFFSET DEVICE INODE PATH
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[5] != program || strings.Contains(fields[1], "w") {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, err := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err == nil && err2 == nil {
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, uintptr(start), uintptr(end-start), syscall.MADV_DONTNEED) // advice, that may be declined
		}
	}
}
