-- Posts an order of one line; with SKUS=n in the environment the lines go through n SKUs in turn.
local n = tonumber(os.getenv("SKUS") or "1")
local next_sku = 0

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

function request()
  local body = string.format('{"items":[{"sku":"BENCH-%04d","qty":1}]}', next_sku)
  next_sku = (next_sku + 1) % n
  return wrk.format(nil, nil, nil, body)
end

-- One line: orders a second, median and 99th percentile in ms, everything that was not a 2xx.
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %.1f %.3f %.3f %d\n",
    (summary.requests - e.status) / (summary.duration / 1e6),
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.status + e.connect + e.read + e.write + e.timeout))
end
