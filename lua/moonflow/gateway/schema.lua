--- The bodies that the gateway takes. MLflow's face has the models of MLflow's gateway (mlflow/gateway/schemas,
-- mlflow/types/chat.py). OpenAI's face takes what they take, and what only OpenAI's API knows: a text in place
-- of a list of texts, and contents, tools and formats of any kind.
local json = require "moonflow.json"
local json_fault = require "moonflow.gateway.json_fault"
local validate = require "moonflow.gateway.validate"

local any, boolean, dict, string = validate.any, validate.boolean, validate.dict, validate.string
local list, literal, map, model = validate.list, validate.literal, validate.map, validate.model
local optional, tagged, union = validate.optional, validate.tagged, validate.union

local schema = {}

local BYTE_ORDER_MARK = "\xEF\xBB\xBF"

local strings, integers = list(string), list(validate.integer())
local count = validate.integer(1)

local function required(name, check)
    return { name, check, required = true }
end

local input = union {
    { "str", string },
    { "list[str]", strings },
    { "list[int]", integers },
    { "list[list[int]]", list(integers) },
}

--- The types of one face.
local faces = {}

faces.mlflow = {
    n = count,
    stop = list(string, true),
    prompt = string,
    model = string,
    response_format = model {
        required("type", literal { "text", "json_object", "json_schema" }),
        { "json_schema", optional(model {
            required("name", string),
            required("schema", dict),
            { "strict", boolean },
        }) },
    },
}

faces.openai = {
    n = optional(count),
    stop = union { { "str", string }, { "list[str]", list(string, true) } },
    prompt = input,
    model = string,
    response_format = dict,
}

do
    local part = tagged({ "text", "image_url", "input_audio", "reasoning" }, {
        text = model { required("text", string) },
        image_url = model {
            required("image_url", model {
                required("url", string),
                { "detail", optional(literal { "auto", "low", "high" }) },
            }),
        },
        input_audio = model {
            required("input_audio", model {
                required("data", string),
                required("format", literal { "wav", "mp3" }),
            }),
        },
        reasoning = model {
            { "summary", list(model { required("type", literal { "summary_text" }), required("text", string) }) },
        },
    })
    local content = union {
        { "str", string },
        { "list[tagged-union[TextContentPart,ImageContentPart,AudioContentPart,ReasoningContentPart]]", list(part) },
    }
    local tool_call = model {
        required("id", string),
        { "type", string },
        required("function", model { { "name", optional(string) }, { "arguments", optional(string) } }),
        { "thought_signature", optional(string) },
    }
    faces.mlflow.messages = list(model {
        required("role", string),
        { "content", optional(content) },
        { "tool_calls", optional(list(tool_call)) },
        { "refusal", optional(string) },
        { "tool_call_id", optional(string) },
    }, true)
end

faces.openai.messages = list(model {
    required("role", string),
    { "content", optional(union { { "str", string }, { "list[dict]", list(dict) } }) },
    { "tool_calls", optional(list(dict)) },
    { "refusal", optional(string) },
    { "tool_call_id", optional(string) },
}, true)

--- The tools of MLflow's face. A property may hold another one, as the type of its items.
local function mlflow_tools()
    local allowed = { "string", "number", "integer", "object", "array", "boolean", "null" }
    local name = "literal['" .. table.concat(allowed, "','") .. "']"
    local property
    property = model {
        { "type", optional(union { { name, literal(allowed) }, { "list[" .. name .. "]", list(literal(allowed)) } }) },
        { "description", optional(string) },
        { "enum", optional(list(union({
            { "str", string }, { "int", validate.integer() }, { "float", validate.number() },
            { "bool", boolean },
        }, true))) },
        { "items", optional(function(value, report)
            return property(value, report)
        end) },
    }
    local definition = model {
        required("name", string),
        { "description", optional(string) },
        { "parameters", optional(model {
            required("properties", map(property)),
            { "type", literal { "object" } },
            { "required", optional(strings) },
            { "additionalProperties", optional(boolean) },
        }) },
        { "strict", optional(boolean) },
    }
    return list(model {
        required("type", literal { "function", "uc_function" }),
        { "function", optional(definition) },
        { "uc_function", optional(model { required("name", string) }) },
    })
end

faces.mlflow.tools = mlflow_tools()
faces.mlflow.tool_choice = union {
    { "literal['none','auto','required']", literal { "none", "auto", "required" } },
    { "ToolChoice", model {
        required("type", literal { "function" }),
        required("function", model { required("name", string) }),
    } },
}

faces.openai.tools = list(dict)
faces.openai.tool_choice = union { { "str", string }, { "dict", dict } }

--- The fields that chat and completions have in common, in MLflow's order.
local function common(face)
    return {
        { "n", face.n },
        { "stop", optional(face.stop) },
        { "max_tokens", optional(count) },
        { "max_completion_tokens", optional(count) },
        { "stream", optional(boolean) },
        { "stream_options", optional(dict) },
        { "model", optional(face.model) },
        { "response_format", optional(face.response_format) },
        { "temperature", optional(validate.number(0, 2)) },
        { "top_p", optional(validate.number(0, 1)) },
        { "presence_penalty", optional(validate.number(-2, 2)) },
        { "frequency_penalty", optional(validate.number(-2, 2)) },
        { "top_k", optional(count) },
    }
end

local function with(fields, ...)
    return model(table.move({ ... }, 1, select("#", ...), #fields + 1, fields))
end

--- The models by face and type of endpoint.
local models = {}

for name, face in next, faces do
    models[name] = {
        ["llm/v1/chat"] = with(common(face),
            required("messages", face.messages),
            { "tools", optional(face.tools) },
            { "tool_choice", optional(face.tool_choice) }),
        ["llm/v1/completions"] = with(common(face), required("prompt", face.prompt)),
    }
end

models.mlflow["llm/v1/embeddings"] = model { required("input", input), { "model", optional(any) } }
models.openai["llm/v1/embeddings"] = model { required("input", input), { "model", optional(string) } }

local limits_body = model { required("route", string), required("limits", list(dict)) }

local function missing_body()
    return json.array { { type = "missing", loc = json.array { "body" }, msg = "Field required", input = json.null } }
end

local function invalid_json(message, position)
    return json.array { {
        type = "json_invalid",
        loc = json.array { "body", position },
        msg = "JSON decode error",
        input = {},
        ctx = { error = message },
    } }
end

--- Says what is wrong with a body that is no JSON.
local function explain(body)
    local message, position
    if utf8.len(body) then
        message, position = json_fault.find(body)
    end
    if message then
        return 422, invalid_json(message, position)
    end
    return 400, "There was an error parsing the body"
end

local function read(check, body)
    if body == "" then
        return nil, 422, missing_body()
    end
    local inputs = json.decode(body)
    if inputs == nil and body:sub(1, 3) == BYTE_ORDER_MARK then
        body = body:sub(4)
        inputs = json.decode(body)
    end
    if inputs == nil then
        return nil, explain(body)
    end
    local faults = validate.check(check, inputs)
    if faults then
        return nil, 422, faults
    end
    for name, value in next, inputs do
        if value == json.null then
            inputs[name] = nil
        end
    end
    return inputs
end

--- Reads the body of a query.
---@param face "mlflow"|"openai"
---@param endpoint_type string
---@param body string
---@return table? inputs made fit: without null, and with numbers where texts were numbers
---@return integer? status where the body is wrong
---@return string|table? detail what FastAPI answers
function schema.read(face, endpoint_type, body)
    return read(models[face][endpoint_type], body)
end

--- Reads the body of a request that sets limits; as `schema.read`.
---@param body string
function schema.read_limits(body)
    return read(limits_body, body)
end

--- What a fault list says, for people: the place of the first one, and what is wrong there.
---@param detail string|table what `schema.read` gave
---@return string message
---@return string? place
function schema.describe(detail)
    if type(detail) == "string" then
        return detail
    end
    local first = detail[1]
    local place = first.type ~= "json_invalid" and validate.place(first) or ""
    local message = first.msg
    if first.type == "json_invalid" then
        message = ("the body is no JSON: %s, at character %d"):format(first.ctx.error, first.loc[2])
    elseif place ~= "" then
        message = place .. ": " .. message
    end
    if #detail > 1 then
        message = ("%s (and %d more)"):format(message, #detail - 1)
    end
    return message, place ~= "" and place or nil
end

return schema
