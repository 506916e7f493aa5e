-- Runs a collector of prometheus-node-exporter-lua: collector.lua COLLECTOR ANSWER.
--
-- `ubus` and `metric` are doubles: the first answers from the file ANSWER (a Lua table, or nothing), the
-- second prints as the exporter's own does.

local collector, answer = arg[1], arg[2]

package.preload["ubus"] = function()
	local connection = {}
	function connection:call(object, method, arguments)
		assert(self == connection and object == "tailover" and method == "metrics" and type(arguments) == "table")
		local load = answer and assert(loadfile(answer))
		if not load then
			return nil, 4
		end
		return load()
	end
	function connection:close()
		assert(not self.closed)
		self.closed = true
	end
	return {
		connect = function()
			return os.getenv("NO_UBUSD") == nil and connection or nil
		end,
	}
end

local function print_sample(name, labels, value)
	assert(type(value) == "number")
	local parts = {}
	for label, text in pairs(labels or {}) do
		parts[#parts + 1] = label .. '="' .. text .. '"'
	end
	print(name .. (labels and "{" .. table.concat(parts, ",") .. "}" or "") .. " " .. value)
end

function metric(name, kind, labels, value)
	print("# TYPE " .. name .. " " .. kind)
	if value then
		print_sample(name, labels, value)
	end
	return function(...)
		print_sample(name, ...)
	end
end

dofile(collector).scrape()
