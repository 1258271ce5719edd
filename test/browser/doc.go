// Package browser looks at the console as people do: in Chromium, in one process and split, with a service away, on a desk and on
// a phone, in the light and in the dark.
//
// It promises that no page has a serious finding of axe-core, lies beside its window, or has a script that fails. It refuses to
// judge beauty: the screenshots are for that, which go test -artifacts keeps.
package browser
