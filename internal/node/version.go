package node

import "runtime/debug"

// Build says which program this is.
type Build struct {
	Version string `json:"version"` // the module's, such as v1.2.0, or "devel"
	Commit  string `json:"commit"`  // of the source; empty if it was not built in a repository
	Dirty   bool   `json:"dirty"`   // the source was changed after Commit
	Time    string `json:"time"`    // of Commit, RFC 3339
	Go      string `json:"go"`
}

// Version reads what the Go tool stamped into this program.
func Version() Build {
	b := Build{Version: "devel"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Dirty = s.Value == "true"
		}
	}
	return b
}
