--- Embeddings: long lists of inputs in several requests, vectors as base64 on the wire. Base64 is a
-- quarter of the bytes of decimal numbers and is decoded in a tenth of the time.
local base64 = require "moonflow.base64"
local error = require "moonflow.error"
local json = require "moonflow.json"
local pipeline = require "moonflow.pipeline"
local tables = require "moonflow.tables"
local task = require "moonflow.task"

local copy = tables.copy

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

--- The inputs as lists that one request can take each; nil where they are one input.
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
    return parts
end

--- The request with another value among its inputs.
local function with(request, name, value)
    local other = copy(request)
    other.json = copy(request.json)
    other.json[name] = value
    return other
end

--- The request, to be sent once.
local function once(request)
    local other = copy(request)
    other.options = copy(request.options or {})
    other.options.max_retries = 0
    return other
end

--- Makes numbers of the vectors that came as base64.
local function decode(answer)
    for i, item in ipairs(answer.data) do
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

--- Sends one request as it is, and looks whether vectors are answered.
local function exchange(client, request, deadline)
    local answer = pipeline.send(client, request, deadline)
    if type(answer) ~= "table" or type(answer.data) ~= "table" then
        raise_decode("the server's answer has no list \"data\"")
    end
    return answer
end

--- Sends one request. Where the caller left the form of the vectors open, base64 is tried first.
local function send(client, request, deadline)
    if request.json.encoding_format ~= nil then
        return exchange(client, request, deadline)
    end
    local floats = with(request, "encoding_format", "float")
    if wants_floats[request.url] then
        return exchange(client, floats, deadline)
    end
    local ok, answer = pcall(exchange, client, with(request, "encoding_format", "base64"), deadline)
    if ok then
        return decode(answer)
    elseif not (error.is(answer) and answer.kind == "http" and REFUSED[answer.http_status]) then
        _G.error(answer, 0)
    end
    -- Where the request itself is at fault, the answer to this one says so. One that fails with 500 has
    -- been repeated already.
    local other = exchange(client, answer.http_status == 500 and once(floats) or floats, deadline)
    wants_floats[request.url] = true
    return other
end

--- Puts a part's vectors in their places behind those of the parts before it.
local function place(vectors, part, offset, count)
    if #part ~= count then
        raise_decode("the server answered %d vectors to %d inputs", #part, count)
    end
    for i, item in ipairs(part) do
        if type(item) ~= "table" then
            raise_decode("the server's answer has something else in place of a vector")
        end
        local index = math.type(item.index) == "integer" and item.index or i - 1
        if index < 0 or index >= count or vectors[offset + index + 1] then
            raise_decode("the server's answer has a vector with the index %s", tostring(item.index))
        end
        item.index = offset + index
        vectors[offset + index + 1] = item
    end
end

--- Sends a request for each part, and makes one answer of theirs.
local function send_parts(client, request, parts, deadline)
    local first = send(client, with(request, "input", parts[1]), deadline)
    local answers = task.map(parts, function(part, i)
        return i == 1 and first or send(client, with(request, "input", part), deadline)
    end, { limit = AT_ONCE })
    local whole, offset = { object = first.object, model = first.model, usage = {}, data = json.array {} }, 0
    for i, answer in ipairs(answers) do
        place(whole.data, answer.data, offset, #parts[i])
        offset = offset + #parts[i]
        for name, value in next, type(answer.usage) == "table" and answer.usage or {} do
            if type(value) == "number" then
                whole.usage[name] = (whole.usage[name] or 0) + value
            end
        end
    end
    return whole
end

--- Sends a request for embeddings, in as many parts as its list of inputs needs, all within the time
--- of one call. The answer to a list has one vector for each input.
---@async
---@param client table
---@param request moonflow.Request `json` has the inputs
---@return table answer with all vectors in the order of the inputs
function embeddings.send(client, request)
    local deadline, parts = pipeline.deadline(client, request), split(request.json.input)
    if parts and #parts > 1 then
        return send_parts(client, request, parts, deadline)
    end
    local answer = send(client, request, deadline)
    if parts then
        local vectors = json.array {}
        place(vectors, answer.data, 0, #parts[1])
        answer.data = vectors
    end
    return answer
end

return embeddings
