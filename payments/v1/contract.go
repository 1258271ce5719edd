// Package paymentsv1 is the v1 contract of Payments: its Protobuf messages, events and service, generated from payments.proto, and
// its OpenAPI document. The server and client generated from the latter are in rest. It promises to stay compatible
// within v1, and imports nothing of the context behind it.
package paymentsv1

import _ "embed"

// OpenAPI is the OpenAPI 3.1 document of the REST face.
//
//go:embed openapi.yaml
var OpenAPI []byte
