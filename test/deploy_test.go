package test

import (
	"context"
	"encoding/json"
	"fmt"
	"github.com/orderkeep/orderkeep/test/stage"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// There is no container engine where these tests run, so they read the files of deploy/ as one does and look for what it would choke
// on, or let through.

// deployment is the files of deploy/, to be read and broken.
type deployment struct{ compose, dockerfile string }

func newDeployment(t testing.TB) deployment {
	t.Helper()
	return deployment{readFile(t, "../deploy/compose.yaml"), readFile(t, "../deploy/Dockerfile")}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// passwords gives each setting of .env.example that has to have a value one.
func passwords(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	for line := range strings.Lines(readFile(t, "../deploy/.env.example")) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			if value != "" {
				t.Errorf(".env.example has a value for %s: whoever copies it would use it", name)
			}
			all[name] = strings.ToLower(strings.ReplaceAll(name, "_", "")) + "0042"
		}
	}
	return all
}

// project is the compose file as compose reads it.
func (d deployment) project(env map[string]string) (*types.Project, error) {
	dir, err := filepath.Abs("../deploy")
	if err != nil {
		return nil, err
	}
	return loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir: dir, Environment: maps.Clone(env), // to which it adds
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml"), Content: []byte(d.compose)}},
	}, loader.WithProfiles([]string{"*"}))
}

// image is what a target of the Dockerfile gives.
type image struct {
	from, user    string
	env           map[string]string
	health, entry []string          // in exec form; nil for any other
	copied        map[string]string // what is in it -> where in the build stage it comes from
	runs          []string          // while it is built
	ports         []string
}

var continued = regexp.MustCompile(`\\\n`)

// images reads the Dockerfile, as much of its language as it uses: the stages by name, of which "" is one without.
func (d deployment) images() map[string]image {
	all := map[string]image{}
	var name string
	for line := range strings.Lines(continued.ReplaceAllString(d.dockerfile, " ")) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		x := all[name]
		switch word {
		case "FROM":
			from, as, _ := strings.Cut(rest, " AS ")
			name, x = as, all[from] // a stage begins with what the one before it has
			x.from, x.env, x.copied = from, maps.Clone(x.env), maps.Clone(x.copied)
			if x.env == nil {
				x.env, x.copied = map[string]string{}, map[string]string{}
			}
		case "USER":
			x.user = rest
		case "ENV":
			for pair := range strings.FieldsSeq(rest) {
				key, value, _ := strings.Cut(pair, "=")
				x.env[key] = value
			}
		case "COPY":
			words := slices.DeleteFunc(strings.Fields(rest), func(w string) bool { return strings.HasPrefix(w, "--") })
			x.copied[words[1]] = words[0]
		case "HEALTHCHECK":
			_, command, _ := strings.Cut(rest, "CMD ")
			x.health = nil
			_ = json.Unmarshal([]byte(command), &x.health) // nil then, which is the fault
		case "ENTRYPOINT":
			x.entry = nil
			_ = json.Unmarshal([]byte(rest), &x.entry)
		case "RUN":
			x.runs = append(x.runs, rest)
		case "EXPOSE":
			x.ports = strings.Fields(rest)
		}
		all[name] = x
	}
	return all
}

// drainTimeout is the default of --drain-timeout.
const drainTimeout = 30 * time.Second

var notRoot = regexp.MustCompile(`^[1-9]\d*(:[1-9]\d*)?$`)

// faults says what is wrong with a deployment.
func (d deployment) faults(t testing.TB, env map[string]string) (all []string) {
	wrong := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	project, err := d.project(env)
	if err != nil {
		return []string{err.Error()}
	}
	images := d.images()
	for name, s := range project.Services {
		ours := s.Build != nil && s.Build.Target != ""
		switch {
		case ours:
			if s.User != "" || s.Entrypoint != nil || s.HealthCheck != nil {
				wrong("%s: what the image says of its user, entry point or health check is overruled", name)
			}
			x, ok := images[s.Build.Target]
			if !ok {
				wrong("%s: the Dockerfile has no target %s", name, s.Build.Target)
				continue
			}
			for _, why := range x.faults(t, s.Build.Target, s.Environment) {
				wrong("%s: %s", name, why)
			}
			if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) <= drainTimeout {
				wrong("%s: it is killed before it has drained, which may take %v", name, drainTimeout)
			}
		case s.Build != nil:
			if user := (deployment{dockerfile: s.Build.DockerfileInline}).images()[""].user; !notRoot.MatchString(user) {
				wrong("%s: the image's user %q is no number that is not root's", name, user)
			}
		case s.User == "" || s.User == "root" || strings.HasPrefix(s.User, "0"):
			wrong("%s: it runs as root", name)
		}
		if !ours && s.HealthCheck == nil {
			wrong("%s: it has no health check", name)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				wrong("%s: the port %d is published to everybody, and there is no authentication", name, p.Target)
			}
			if ours && !slices.Contains(images[s.Build.Target].ports, fmt.Sprint(p.Target)) {
				wrong("%s: the port %d is not one of the image", name, p.Target)
			}
		}
		if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") || len(s.CapAdd) > 0 || s.Privileged || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			wrong("%s: it may do more than it needs: want read_only, cap_drop ALL and no-new-privileges", name)
		}
		if s.Deploy == nil || s.Deploy.Resources.Limits == nil || s.Deploy.Resources.Limits.MemoryBytes == 0 || s.Deploy.Resources.Limits.NanoCPUs == 0 {
			wrong("%s: nothing bounds its memory and CPU", name)
		}
		if s.Restart == "" || len(s.Profiles) == 0 && s.Restart == "no" {
			wrong("%s: nobody starts it again when it ends", name)
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind && !v.ReadOnly {
				wrong("%s: it may write to %s", name, v.Source)
			} else if _, err := os.Stat(v.Source); v.Type == types.VolumeTypeBind && err != nil {
				wrong("%s: %v", name, err)
			}
		}
	}
	return all
}

// faults says what is wrong with an image of one of our programs that gets an environment.
func (x image) faults(t testing.TB, target string, environment types.MappingWithEquals) (all []string) {
	wrong := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if !notRoot.MatchString(x.user) {
		wrong("the image's user %q is no number that is not root's", x.user)
	}
	if !slices.Equal(x.entry, []string{"/" + target}) || x.copied["/"+target] != "/out/"+target {
		wrong("the image does not run its program")
	}
	if !slices.Equal(x.health, []string{"/" + target, "health"}) {
		wrong("the image's health check is not its program's own, in exec form: there is no shell in it")
	}
	env := maps.Clone(x.env)
	for key, value := range environment {
		if value != nil {
			env[key] = *value
		}
	}
	known := settings(t, target)
	for key := range env {
		if !slices.Contains(known, key) {
			wrong("%s is no setting of %s", key, target)
		}
	}
	if env["ORDERKEEP_LISTEN"] == "" || strings.HasPrefix(env["ORDERKEEP_LISTEN"], "127.") {
		wrong("it listens where nobody outside of the container can reach it")
	}
	if out, log, code := (stage.Launch{Path: built(target), Args: []string{"config"}, Env: pairs(env)}).Run(t, ""); code != 0 {
		wrong("it would not start: %s%s", out, log)
	}
	return all
}

// built is the path of a program.
func built(name string) string { return filepath.Join(filepath.Dir(program), name) }

func pairs(env map[string]string) []string {
	var all []string
	for key, value := range env {
		all = append(all, key+"="+value)
	}
	return all
}

var named = regexp.MustCompile(`\$([A-Z_]+)`)

// settings are the environment variables that a program reads.
func settings(t testing.TB, name string) []string {
	t.Helper()
	var all []string
	for _, args := range [][]string{{"serve", "--help"}, {"broker", "--help"}} {
		if name != "orderkeep" && args[0] == "broker" {
			continue
		}
		out, log, code := stage.Launch{Path: built(name), Args: args}.Run(t, "")
		if code != 0 {
			t.Fatalf("%s %v: %s", name, args, log)
		}
		for _, m := range named.FindAllStringSubmatch(out, -1) {
			all = append(all, m[1])
		}
	}
	if len(all) < 10 {
		t.Fatalf("%s has only the settings %v: the test does not read its help any more", name, all)
	}
	return all
}

func TestDeploymentHoldsTogether(t *testing.T) {
	t.Parallel()
	d, env := newDeployment(t), passwords(t)
	for _, why := range d.faults(t, env) {
		t.Error(why)
	}
	project, err := d.project(env)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"orders", "inventory", "payments", "orderkeep"} {
		if s, ok := project.Services[name]; !ok || s.Build == nil || s.Build.Target != name {
			t.Errorf("there is no service %s from the target of its name", name)
		}
	}
	// A password that was forgotten is found before anything starts, and each goes to those who need it only.
	for name, value := range env {
		without := maps.Clone(env)
		delete(without, name)
		if _, err := d.project(without); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
		for _, s := range project.Services {
			context := strings.ToLower(strings.TrimSuffix(name, "_DB_PASSWORD"))
			stranger := strings.HasSuffix(name, "_DB_PASSWORD") && !slices.Contains([]string{context, "postgres", "orderkeep"}, s.Name) && (s.Name != "payments" || context != "simulated_provider")
			for key, v := range s.Environment {
				if stranger && v != nil && strings.Contains(*v, value) {
					t.Errorf("%s has the password of %s in %s", s.Name, context, key)
				}
			}
		}
	}
}

func TestImagesAreBuiltAsTheseTestsBuild(t *testing.T) {
	t.Parallel()
	x := newDeployment(t).images()["build"]
	const build = "CGO_ENABLED=0 go build -trimpath -o /out/ ./cmd/orderkeep ./cmd/orders ./cmd/inventory ./cmd/payments"
	if !slices.Contains(x.runs, build) {
		t.Errorf("the Dockerfile runs %q, and these tests build with: %s", x.runs, build)
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.GoVersion}} {{.Version}}", "github.com/orderkeep/orderkeep", "github.com/nats-io/nats-server/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(out))
	if len(words) < 3 {
		t.Fatalf("go list: %q", out)
	}
	goes, nats := words[0], strings.TrimPrefix(words[len(words)-1], "v")
	if from, ok := strings.CutPrefix(x.from, "golang:"); !ok || from < goes || strings.Count(from, ".") != 2 {
		t.Errorf("it is built in %s, want an exact golang of %s or later", x.from, goes)
	}
	if !strings.Contains(newDeployment(t).compose, "FROM nats:"+nats+"-") {
		t.Errorf("NATS in compose.yaml is not the version that is tested, %s", nats)
	}
}

func TestFaultsOfADeploymentAreFound(t *testing.T) {
	t.Parallel()
	good, env := newDeployment(t), passwords(t)
	for name, c := range map[string]struct{ in, old, text, want string }{
		"a setting misspelt":          {"compose", "      INVENTORY_URL:", "      INVENTARY_URL:", "INVENTARY_URL is no setting of orders"},
		"a setting of the image":      {"dockerfile", "ENV ORDERKEEP_DATA=", "ENV ORDERKEEP_DIR=", "ORDERKEEP_DIR is no setting"},
		"a value that cannot be":      {"compose", "grpc://inventory:3101", "grcp://inventory:3101", "INVENTORY_URL: must begin with"},
		"a service without database":  {"compose", "postgres://orders:", "mysql://orders:", "ORDERS_DB"},
		"a word of compose misspelt":  {"compose", "read_only: true", "readonly: true", "readonly"},
		"a port for everybody":        {"compose", `"127.0.0.1:3000:3000"`, `"3000:3000"`, "3000 is published to everybody"},
		"a port that nobody has":      {"compose", `"127.0.0.1:3000:3000"`, `"127.0.0.1:3000:3003"`, "3003 is not one of the image"},
		"no user":                     {"dockerfile", "USER 65532:65532\n", "", `the image's user ""`},
		"a user by name":              {"dockerfile", "USER 65532:65532\n", "USER nobody\n", `the image's user "nobody"`},
		"root":                        {"dockerfile", "USER 65532:65532\n", "USER 0\n", `the image's user "0"`},
		"root at somebody else's":     {"compose", "user: redis\n", "user: root\n", "redis: it runs as root"},
		"root at NATS":                {"compose", "        USER 65532:65532\n", "", "nats: the image's user"},
		"a target less":               {"compose", "target: orders}", "target: order}", "no target order"},
		"a health check in a shell":   {"dockerfile", `CMD ["/orders", "health"]`, "CMD /orders health", "orders: the image's health check"},
		"another's health check":      {"dockerfile", `CMD ["/orders", "health"]`, `CMD ["/orders", "healthy"]`, "orders: the image's health check"},
		"another's program":           {"dockerfile", "/out/orders /orders", "/out/payments /orders", "orders: the image does not run its program"},
		"no health check":             {"compose", "test: [CMD, pg_isready", "xtest: [CMD, pg_isready", "xtest"},
		"a listener on the loopback":  {"dockerfile", "ORDERKEEP_LISTEN=0.0.0.0:3001", "ORDERKEEP_LISTEN=127.0.0.1:3001", "inventory: it listens where nobody"},
		"a kill in the middle":        {"compose", "stop_grace_period: 45s", "stop_grace_period: 10s", "killed before it has drained"},
		"capabilities":                {"compose", "cap_drop: [ALL]", "cap_drop: [CHOWN]", "more than it needs"},
		"no bound":                    {"compose", `limits: {cpus: "2", memory: 512M, pids: 512}`, "limits: {pids: 512}", "nothing bounds"},
		"no restart":                  {"compose", "restart: unless-stopped\n    stop_grace_period: 60s", "stop_grace_period: 60s", "postgres: nobody starts it again"},
		"a file that is not there":    {"compose", "./nats.conf:", "./nat.conf:", "nat.conf"},
		"a file that may be written":  {"compose", "orderkeep.conf:ro", "orderkeep.conf", "it may write to"},
		"limits shared without limit": {"compose", "      ORDERKEEP_RATE_LIMIT: ${ORDERKEEP_RATE_LIMIT:-100/s}\n", "", "REDIS_URL"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			bad := good
			text := &bad.compose
			if c.in == "dockerfile" {
				text = &bad.dockerfile
			}
			if !strings.Contains(*text, c.old) {
				t.Fatalf("there is no %q any more: break another part of it here", c.old)
			}
			*text = strings.Replace(*text, c.old, c.text, 1)
			if got := strings.Join(bad.faults(t, env), "\n"); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q in it", got, c.want)
			}
		})
	}
}
