-- Requests for wrk: wrk -s service.lua URL -- BODIES THINK_MS
-- BODIES has one JSON body a line. THINK_MS is the mean pause of a connection before a request; 0: none.
local requests, number, think = {}, 0, 0

function init(args)
  think = tonumber(args[2])
  for body in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, {["Content-Type"] = "application/json"}, body)
  end
  math.randomseed(42)
  number = math.random(#requests)
end

function request()
  number = number % #requests + 1
  return requests[number]
end

if tonumber(os.getenv("THINK") or "0") > 0 then
  function delay()
    return math.floor(-think * math.log(1 - math.random()) + 0.5)
  end
end

function done(summary, latency, _)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, failed))
end
