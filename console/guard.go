package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/orderkeep/orderkeep/internal/httpd"
)

const (
	// sessionCookie holds who is signed in and until when, sealed with a key that follows from the token: any replica can check it, and
	// another token ends all sessions.
	sessionCookie = "orderkeep-console"
	// nameCookie remembers the name that somebody gave, where nobody signs in.
	nameCookie = "orderkeep-name"
	// sessionTime is a working day.
	sessionTime = 12 * time.Hour
	maxName     = 128 // the contracts' bound of an actor, in bytes
)

// guard says who may see the console.
type guard struct {
	token string
	key   []byte
	site  *http.CrossOriginProtection
}

func newGuard(token string) guard {
	key := sha256.Sum256([]byte("orderkeep console session\x00" + token))
	return guard{token: token, key: key[:], site: http.NewCrossOriginProtection()}
}

// secure sets what keeps a page from being used by another.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// admitted lets a request pass, or answers it: with the form to sign in where there is a token, and else with a refusal
// unless it comes from this machine.
func (c *console) admitted(w http.ResponseWriter, r *http.Request) bool {
	if err := c.guard.site.Check(r); err != nil {
		c.refuse(w, r, http.StatusForbidden, "This came from another site", "Only the console's own pages can do something here. Go back to the console and do it there.")
		return false
	}
	open := r.URL.Path == "/console/sign-in" || strings.HasPrefix(r.URL.Path, "/console/static/")
	switch {
	case c.guard.token == "":
		if f := httpd.Near(r); f != nil {
			c.refuse(w, r, http.StatusForbidden, "The console answers this machine only",
				f.Detail+" To open it to others, start the server with --console-token, and put something before it that has TLS.")
			return false
		}
	case open, c.guard.session(r) != "":
	case r.Method == http.MethodGet && !strings.HasSuffix(r.URL.Path, ".json"):
		http.Redirect(w, r, "/console/sign-in?next="+escape(r.URL.RequestURI()), http.StatusSeeOther)
		return false
	default:
		c.refuse(w, r, http.StatusUnauthorized, "You are not signed in", "Your session has ended, or has not begun. Nothing was done. Sign in and repeat it.")
		return false
	}
	return true
}

// who is the name of whoever asks, or "".
func (g guard) who(r *http.Request) string {
	if g.token != "" {
		return g.session(r)
	}
	cookie, err := r.Cookie(nameCookie)
	if err != nil {
		return ""
	}
	name, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil || !validName(string(name)) {
		return ""
	}
	return string(name)
}

func validName(name string) bool { return strings.TrimSpace(name) != "" && len(name) <= maxName }

// session is the name in a session that is ours and has not ended, or "".
func (g guard) session(r *http.Request) string {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	payload, mac, _ := strings.Cut(cookie.Value, ".")
	if subtle.ConstantTimeCompare([]byte(mac), []byte(g.seal(payload))) != 1 {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return ""
	}
	until, name, _ := strings.Cut(string(text), " ")
	if n, err := strconv.ParseInt(until, 10, 64); err != nil || time.Now().Unix() >= n {
		return ""
	}
	return name
}

func (g guard) seal(payload string) string {
	m := hmac.New(sha256.New, g.key)
	m.Write([]byte(payload))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func (c *console) signInForm(w http.ResponseWriter, r *http.Request) {
	c.show(w, r, http.StatusOK, "sign-in", "Sign in", signInPage{Next: local(r.URL.Query().Get("next"))})
}

type signInPage struct{ Next, Name, Wrong string }

// local keeps a sign-in from leading to another site.
func local(next string) string {
	if !strings.HasPrefix(next, "/console") || strings.ContainsAny(next, "\\\r\n") {
		return "/console"
	}
	return next
}

func (c *console) signIn(w http.ResponseWriter, r *http.Request) {
	p := signInPage{Next: local(r.PostFormValue("next")), Name: strings.TrimSpace(r.PostFormValue("name"))}
	// Equal lengths are compared in equal time.
	given, want := sha256.Sum256([]byte(r.PostFormValue("token"))), sha256.Sum256([]byte(c.guard.token))
	switch {
	case c.guard.token == "":
		http.Redirect(w, r, "/console", http.StatusSeeOther)
		return
	case !validName(p.Name):
		p.Wrong = "Give your name: it is written down with what you do. It has 128 bytes at most."
	case subtle.ConstantTimeCompare(given[:], want[:]) != 1:
		p.Wrong = "This is not the token that the server was started with."
		c.log.WarnContext(r.Context(), "somebody did not get into the console: the token was wrong")
	}
	if p.Wrong != "" {
		c.show(w, r, http.StatusUnprocessableEntity, "sign-in", "Sign in", p)
		return
	}
	payload := base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(time.Now().Add(sessionTime).Unix(), 10) + " " + p.Name))
	c.cookie(w, r, sessionCookie, payload+"."+c.guard.seal(payload), int(sessionTime/time.Second))
	http.Redirect(w, r, p.Next, http.StatusSeeOther)
}

func (c *console) signOut(w http.ResponseWriter, r *http.Request) {
	c.cookie(w, r, sessionCookie, "", -1)
	http.Redirect(w, r, "/console/sign-in", http.StatusSeeOther)
}

func (c *console) cookie(w http.ResponseWriter, r *http.Request, name, value string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/console", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https", // what a client claims only binds itself
	})
}

// actor is the name under which something is done: that of the session, or the one in the form, which is remembered. Without one
// it answers that one is needed, and returns "".
func (c *console) actor(w http.ResponseWriter, r *http.Request) string {
	if c.guard.token != "" {
		return c.guard.session(r)
	}
	name := strings.TrimSpace(r.PostFormValue("actor"))
	if !validName(name) {
		c.refuse(w, r, http.StatusUnprocessableEntity, "Who are you?", "Give your name: it is written to the trail with what you do. It has 128 bytes at most. Nothing was done.")
		return ""
	}
	c.cookie(w, r, nameCookie, base64.RawURLEncoding.EncodeToString([]byte(name)), int((365 * 24 * time.Hour).Seconds()))
	return name
}
