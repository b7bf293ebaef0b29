--- Embeddings: long lists of inputs in several requests, vectors as base64 on the wire. Base64 is a
-- quarter of the bytes of decimal numbers and is decoded in a tenth of the time.
local base64 = require "moonflow.base64"
local error = require "moonflow.error"
local json = require "moonflow.json"
local task = require "moonflow.task"

local embeddings = {}

-- OpenAI's limits of one request. A token has at least one byte, so bytes are safe to count.
local INPUTS_MAX = 2048
local TOKENS_MAX = 300000

local AT_ONCE = 4 -- requests for the parts of one list

-- What servers answer that know no base64; they are asked for numbers from then on.
local REFUSED = { [400] = true, [422] = true, [500] = true }
local wants_floats = {}

local function raise_decode(message, ...)
    _G.error(error.new { kind = "decode", message = message:format(...) }, 0)
end

--- How many tokens an input has at the most.
local function size_of(input)
    return (type(input) == "string" or type(input) == "table") and #input or 1
end

--- The inputs as lists that one request can take each; nil where they are one input, or few.
local function split(inputs)
    if type(inputs) ~= "table" or type(inputs[1]) ~= "string" and type(inputs[1]) ~= "table" then
        return nil
    end
    local parts, part, size = {}, nil, 0
    for _, input in ipairs(inputs) do
        size = size + size_of(input)
        if not part or #part == INPUTS_MAX or size > TOKENS_MAX then
            part, size = json.array {}, size_of(input)
            parts[#parts + 1] = part
        end
        part[#part + 1] = input
    end
    return #parts > 1 and parts or nil
end

local function with(request, name, value)
    local body = {}
    for key, item in next, request.json do
        body[key] = item
    end
    body[name] = value
    local copy = {}
    for key, item in next, request do
        copy[key] = item
    end
    copy.json = body
    return copy
end

--- Makes numbers of the vectors that came as base64.
local function decode(answer)
    local data = type(answer) == "table" and answer.data
    if type(data) ~= "table" then
        raise_decode("the server's answer has no list \"data\"")
    end
    for i, item in ipairs(data) do
        local vector = type(item) == "table" and item.embedding
        if type(vector) == "string" then
            local floats = base64.floats(vector)
            if not floats then
                raise_decode("vector %d of the server's answer is not base64 of 32-bit numbers", i)
            end
            item.embedding = json.array(floats)
        end
    end
    return answer
end

--- Sends one request. Where the caller left the form of the vectors open, base64 is tried first.
local function send(client, request)
    if request.json.encoding_format ~= nil then
        return client:send(request)
    end
    local floats = with(request, "encoding_format", "float")
    if wants_floats[request.url] then
        return client:send(floats)
    end
    local ok, answer = pcall(client.send, client, with(request, "encoding_format", "base64"))
    if ok then
        return decode(answer)
    elseif not (error.is(answer) and answer.kind == "http" and REFUSED[answer.http_status]) then
        _G.error(answer, 0)
    end
    local other = client:send(floats) -- where the request itself is at fault, this says so
    wants_floats[request.url] = true
    return other
end

--- Puts a part's vectors in their places, and adds up what it used.
local function merge(whole, part, offset, count)
    if type(part) ~= "table" or type(part.data) ~= "table" or #part.data ~= count then
        raise_decode("the server answered %s vectors to %d inputs",
            type(part) == "table" and type(part.data) == "table" and #part.data or "no", count)
    end
    for i, item in ipairs(part.data) do
        if type(item) ~= "table" then
            raise_decode("the server's answer has something else in place of a vector")
        end
        local index = math.type(item.index) == "integer" and item.index or i - 1
        if index < 0 or index >= count or whole.data[offset + index + 1] then
            raise_decode("the server's answer has a vector with the index %s", tostring(item.index))
        end
        item.index = offset + index
        whole.data[offset + index + 1] = item
    end
    for name, value in next, type(part.usage) == "table" and part.usage or {} do
        if type(value) == "number" then
            whole.usage[name] = (whole.usage[name] or 0) + value
        end
    end
end

--- Sends a request for embeddings, in as many parts as its list of inputs needs.
---@async
---@param client table
---@param request moonflow.Request `json` has the inputs
---@return table answer with all vectors in the order of the inputs
function embeddings.send(client, request)
    local parts = split(request.json.input)
    if not parts then
        return send(client, request)
    end
    local first = send(client, with(request, "input", parts[1]))
    local answers = task.map(parts, function(part, i)
        return i == 1 and first or send(client, with(request, "input", part))
    end, { limit = AT_ONCE })
    local whole, offset = { object = first.object, model = first.model, usage = {}, data = json.array {} }, 0
    -- Filled from an empty list, so that a vector that comes twice shows.
    for i, answer in ipairs(answers) do
        merge(whole, answer, offset, #parts[i])
        offset = offset + #parts[i]
    end
    return whole
end

return embeddings
