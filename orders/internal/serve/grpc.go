package serve

import (
	"context"

	"github.com/google/uuid"
	"github.com/orderkeep/orderkeep/internal/fault"
	"github.com/orderkeep/orderkeep/internal/telemetry"
	"github.com/orderkeep/orderkeep/orders/internal/order"
	ordersv1 "github.com/orderkeep/orderkeep/orders/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// GRPC answers OrdersService.
type GRPC struct {
	ordersv1.UnimplementedOrdersServiceServer
	orders  *order.Service
	records order.Records
}

// NewGRPC returns the gRPC form of the contract.
func NewGRPC(orders *order.Service, records order.Records) *GRPC {
	return &GRPC{orders: orders, records: records}
}

// PlaceOrder implements ordersv1.OrdersServiceServer.
func (g *GRPC) PlaceOrder(ctx context.Context, req *ordersv1.PlaceOrderRequest) (*ordersv1.PlaceOrderResponse, error) {
	p := order.Placement{
		Key: req.IdempotencyKey, Currency: req.Currency, Customer: telemetry.Secret(req.Customer), Provider: req.PaymentProvider, Token: telemetry.Secret(req.PaymentToken),
		CorrelationID: telemetry.Correlation(ctx),
	}
	for _, l := range req.Lines {
		p.Lines = append(p.Lines, order.Line{SKU: l.GetSku(), Qty: l.GetQty(), UnitPriceMinor: l.GetUnitPriceMinor()})
	}
	r, err := g.orders.Place(ctx, p)
	if err != nil {
		return nil, err
	}
	return &ordersv1.PlaceOrderResponse{Order: asProto(r.Order)}, nil
}

// GetOrder implements ordersv1.OrdersServiceServer.
func (g *GRPC) GetOrder(ctx context.Context, req *ordersv1.GetOrderRequest) (*ordersv1.GetOrderResponse, error) {
	id, err := parseID(req.OrderId)
	if err != nil {
		return nil, err
	}
	o, err := g.records.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return &ordersv1.GetOrderResponse{Order: asProto(o)}, nil
}

// CancelOrder implements ordersv1.OrdersServiceServer.
func (g *GRPC) CancelOrder(ctx context.Context, req *ordersv1.CancelOrderRequest) (*ordersv1.CancelOrderResponse, error) {
	id, err := parseID(req.OrderId)
	if err != nil {
		return nil, err
	}
	o, err := g.orders.Cancel(ctx, id, req.Reason)
	if err != nil {
		return nil, err
	}
	return &ordersv1.CancelOrderResponse{Order: asProto(o)}, nil
}

// FulfilOrder implements ordersv1.OrdersServiceServer.
func (g *GRPC) FulfilOrder(ctx context.Context, req *ordersv1.FulfilOrderRequest) (*ordersv1.FulfilOrderResponse, error) {
	id, err := parseID(req.OrderId)
	if err != nil {
		return nil, err
	}
	o, err := g.orders.Fulfil(ctx, id)
	if err != nil {
		return nil, err
	}
	return &ordersv1.FulfilOrderResponse{Order: asProto(o)}, nil
}

// ReturnOrder implements ordersv1.OrdersServiceServer.
func (g *GRPC) ReturnOrder(ctx context.Context, req *ordersv1.ReturnOrderRequest) (*ordersv1.ReturnOrderResponse, error) {
	id, err := parseID(req.OrderId)
	if err != nil {
		return nil, err
	}
	o, err := g.orders.Return(ctx, id, req.Reason)
	if err != nil {
		return nil, err
	}
	return &ordersv1.ReturnOrderResponse{Order: asProto(o)}, nil
}

func parseID(s string) (order.ID, error) {
	u, err := uuid.Parse(s)
	if err != nil {
		return "", fault.New(fault.Invalid, "invalid_request", "order_id is a UUID.")
	}
	return order.ID(u.String()), nil
}

var protoStatus = map[string]ordersv1.OrderStatus{
	"pending":   ordersv1.OrderStatus_ORDER_STATUS_PENDING,
	"confirmed": ordersv1.OrderStatus_ORDER_STATUS_CONFIRMED,
	"rejected":  ordersv1.OrderStatus_ORDER_STATUS_REJECTED,
	"cancelled": ordersv1.OrderStatus_ORDER_STATUS_CANCELLED,
	"fulfilled": ordersv1.OrderStatus_ORDER_STATUS_FULFILLED,
	"returned":  ordersv1.OrderStatus_ORDER_STATUS_RETURNED,
}

func asProto(o *order.Order) *ordersv1.Order {
	out := &ordersv1.Order{
		OrderId: string(o.ID), Status: protoStatus[o.State.Status()], Currency: o.Currency, TotalMinor: o.TotalMinor,
		Customer: string(o.Customer), Reason: reason(o), CorrelationId: o.CorrelationID, PlacedAt: timestamppb.New(o.PlacedAt),
	}
	for _, l := range o.Lines {
		out.Lines = append(out.Lines, &ordersv1.OrderLine{Sku: l.SKU, Qty: l.Qty, UnitPriceMinor: l.UnitPriceMinor})
	}
	if r := o.Rejection; r != nil {
		for _, s := range r.Shortages {
			out.Shortages = append(out.Shortages, &ordersv1.Shortage{Sku: s.SKU, Requested: s.Requested, Available: s.Available})
		}
	}
	return out
}
