package outbox

// Counting are the statements that count what waits, by the index that they must go by.
func Counting() map[string]string {
	return map[string]string{queryUnpublished: "outbox_waiting", queryUnhandled: "inbox_waiting", queryTypes: "outbox_waiting"}
}

// HotStatements are those that run all the time, by the index that each must go by.
func HotStatements() map[string]string {
	return map[string]string{
		queryWaiting: "outbox_waiting", execMark: "outbox_waiting", queryLast: "outbox_position", queryFeed: "outbox_position", queryFeedBack: "outbox_position",
		queryInbox: "inbox_waiting", queryParked: "inbox_waiting",
	}
}
