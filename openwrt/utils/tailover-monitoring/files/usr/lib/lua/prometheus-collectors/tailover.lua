-- What tailover counts and measures, as its ubus method `metrics` gives it. The names are the daemon's own.

local ubus = require "ubus"

-- The exporter's text format knows neither state sets nor infos: their values are gauges.
local SUFFIX = { counter = "_total", info = "_info" }
local ESCAPED = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }

-- The exporter prints a label as it comes.
local function escaped(text)
	return (text:gsub('[\\"\n]', ESCAPED))
end

local function labels_of(sample)
	local labels
	for name, value in pairs(sample) do
		if name ~= "value" and name ~= "state" then
			labels = labels or {}
			labels[name] = escaped(value)
		end
	end
	return labels
end

local function print_family(family)
	local kind = family.type == "counter" and "counter" or "gauge"
	local put = metric(family.name .. (SUFFIX[family.type] or ""), kind)
	for _, sample in ipairs(family.samples) do
		local labels = labels_of(sample)
		if sample.state then
			labels = labels or {}
			for _, state in ipairs(family.states) do
				labels[family.name] = state
				put(labels, state == sample.state and 1 or 0)
			end
		else
			put(labels, sample.value)
		end
	end
end

local function scrape()
	local bus = ubus.connect()
	local answer = bus and bus:call("tailover", "metrics", {})
	if bus then
		bus:close()
	end
	if not answer then
		metric("tailover_up", "gauge", nil, 0)
		return
	end
	for _, family in ipairs(answer.metrics) do
		print_family(family)
	end
end

return { scrape = scrape }
