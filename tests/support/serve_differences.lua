--- Where `moonflow serve` answers otherwise than MLflow's gateway 3.17.2, and why; for serve_clients_spec.lua.
--
-- A row: `cases`, Lua patterns of whole names; `fields`, what may differ of their records: a path of which "*"
-- is any number and a dot at the end all that is below; `why`. And beside these
--   instead  { theirs, ours }: but for these words in place of those, nothing differs
--   ours     path -> JSON, or a pattern in slashes: what moonflow gives in all these cases
-- The group of a row is the first word of its cases. A row that nothing needs is a failure.

local UNREACHABLE = "nobody can be reached: 502, as of any gateway, where MLflow's has a fault of its own, 500"
local ERRORS = "a refusal has OpenAI's form, so that the openai package shows the message and finds code and param"
local UNKNOWN = "a model that is not there is the client's mistake, and has OpenAI's status and code for it"

return {
    {
        cases = { "deployments: predict .*" },
        fields = { "error.message" },
        instead = { "422 Client Error: Unprocessable Entity", "422 Client Error: Unprocessable Content" },
        why = "libmicrohttpd writes the reason phrase, and has the newer name of 422 (RFC 9110)",
    },
    {
        cases = { "deployments: predict nobody there", "deployments: predict aimock's .*" },
        fields = { "error.message", "error.status", "error.text" },
        ours = { ["error.status"] = "502", ["error.text"] = '{"detail":"the target can not be reached"}' },
        why = UNREACHABLE,
    },
    {
        cases = { "deployments: predict aimock's embedding" },
        fields = { "result.data.*.embedding.*" },
        instead = { ".0", "" },
        why = "a whole number in a vector is passed on as it came, not as 1.0",
    },
    {
        cases = { "pages: page eyJpbmRleCI6IC0yfQ==", "pages: page %%", "pages: page bm8=" },
        fields = { "result.body", "result.status" },
        ours = { ["result.status"] = "400" },
        why = "a wrong token is the client's mistake: 400 and what is wrong, where MLflow's gateway answers 500",
    },
    {
        cases = { "pages: page of an empty token" },
        fields = { "result" },
        ours = { ["result"] = "400" },
        why = "the same of a token that is empty",
    },
    {
        cases = { "openai: chat.*", "openai: aimock's .*" },
        fields = { "result.provider", "result.*.provider", "result.answer.provider" },
        ours = { ["result.provider"] = "nothing" },
        why = "OpenAI's answers have no provider",
    },
    {
        cases = { "openai: aimock's story, stream" },
        fields = { "result.*.system_fingerprint" },
        ours = { ["result.*.system_fingerprint"] = '"fp_moon"' },
        why = "OpenAI's face passes on what the model server said, where MLflow's gateway drops what it does not know",
    },
    {
        cases = { "openai: chat stream", "openai: chat stream with a tool", "openai: aimock's .*, stream" },
        fields = { "result.*" },
        ours = { ["result.*"] = "nothing" },
        why = "the usage of a stream is told to those that ask for it in stream_options, as OpenAI does",
    },
    {
        cases = { "openai: chat stream as the package collects it" },
        fields = { "result.answer.usage", "result.kinds.*" },
        ours = { ["result.answer.usage"] = "null" },
        why = "the same in what the package collects",
    },
    {
        cases = { "openai: completion stream", "openai: completion stream with its usage" },
        fields = { "error", "result" },
        ours = { result = '/^%[{.*"text":"You"/' },
        why = "MLflow's gateway breaks a stream of completions off, as it reads it as one of a chat",
    },
    {
        cases = { "openai: error: .*", "openai: no such model" },
        fields = { "error.body.", "error.message", "error.type", "error.code", "error.param" },
        why = ERRORS,
    },
    {
        cases = { "openai: error: nobody there", "openai: error: nobody there, stream", "openai: aimock's .*" },
        fields = { "error.body.", "error.class", "error.message", "error.status", "error.type" },
        ours = { ["error.status"] = "502", ["error.class"] = '"InternalServerError"' },
        why = UNREACHABLE .. "; a stream that has not begun is refused like any other answer",
    },
    {
        cases = { "openai: error: the wrong key, stream" },
        fields = { "error.class", "error.status" },
        ours = { ["error.status"] = "401", ["error.class"] = '"AuthenticationError"' },
        why = "a stream that has not begun is refused like any other answer, where MLflow's gateway breaks it off",
    },
    {
        cases = { "openai: error: no such model" },
        fields = { "error.class", "error.status" },
        ours = { ["error.status"] = "404", ["error.class"] = '"NotFoundError"', ["error.code"] = '"model_not_found"' },
        why = UNKNOWN,
    },
    {
        cases = { "openai: error: no model" },
        fields = { "error.class", "error.status" },
        ours = { ["error.status"] = "400", ["error.class"] = '"BadRequestError"', ["error.param"] = '"model"' },
        why = UNKNOWN,
    },
    {
        cases = { "openai: error: stop a text", "openai: error: a prompt that is a list" },
        fields = { "error", "result" },
        ours = { error = "nothing" },
        why = "OpenAI's API allows it, and so does OpenAI's face",
    },
    {
        cases = { "openai: models", "openai: a model" },
        fields = { "error", "result" },
        ours = { error = "nothing", result = '/"object":"model"/' },
        why = "MLflow's gateway has no such route",
    },
    {
        cases = { "openai: error: over a limit" },
        fields = { "error", "result" },
        ours = { error = '/"class":"RateLimitError".*"status":429/' },
        why = "an endpoint's limit holds for both faces; MLflow's gateway forgets it at /v1",
    },
    {
        cases = { "raw: HEAD /health" },
        fields = { "result.headers.allow", "result.status" },
        ours = { ["result.status"] = "200" },
        why = "HEAD is allowed where GET is (RFC 9110)",
    },
    {
        cases = { "raw: GET /health/", "raw: GET /api/2.0/endpoints", "raw: GET /api/2.0/endpoints/chat/",
            "raw: POST /gateway/chat/invocations/" },
        fields = { "result.headers.location" },
        instead = { "http://SERVER/", "/" },
        why = "a redirect without a host can lead nowhere else, whatever the request's Host said",
    },
    {
        cases = { "raw: GET /" },
        fields = { "result." },
        ours = { ["result.status"] = "200", ["result.body"] = "/moonflow's deployments server/" },
        why = "there are no pages to lead to, so the text is here",
    },
    {
        cases = { "raw: GET /api/2.0/endpoints/%%ff" },
        fields = { "result.body.detail" },
        instead = { "\u{FFFD}", "?" },
        why = "what is not of UTF-8 is shown as moonflow does everywhere",
    },
    {
        cases = { "raw: GET /v1/chat/completions", "raw: GET /v1/nobody", "raw: POST /v1/models", "raw: v1 .*" },
        fields = { "result.body.error" },
        ours = { ["result.body.error"] = '/^{"code":.*"message":".*"param":.*"type":".*"}$/' },
        why = ERRORS .. "; MLflow's own field is there beside it",
    },
    {
        cases = { "raw: GET /v1/models/", "raw: POST /v1/models", "raw: v1 models" },
        fields = { "result." },
        why = "MLflow's gateway has no route /v1/models",
    },
    {
        cases = { "raw: body with NaN", "raw: body with Infinity", "raw: body with a lone surrogate" },
        fields = { "result." },
        ours = { ["result.status"] = "/^4[02][02]$/" },
        why = "it is no JSON (RFC 8259): the client's mistake, where MLflow's gateway passes it on and fails, 500",
    },
    {
        cases = { "raw: content%-type .*" },
        fields = { "result." },
        ours = { ["result.status"] = "415" },
        why = "a page in a browser may send any other type without asking: such a body is not read at all",
    },
    {
        cases = { "raw: completion as a stream" },
        fields = { "error", "result" },
        ours = { result = '/"object":"text_completion_chunk"/' },
        why = "MLflow's gateway breaks a stream of completions off, as it reads it as one of a chat",
    },
    {
        cases = { "raw: stream of refused", "raw: stream of unreachable" },
        fields = { "error", "result" },
        ours = { result = '/^{"body":{"detail":".*"},"headers":{.*application/json"},"status":[45]0[12]}$/' },
        why = "a stream that has not begun is refused like any other answer, where MLflow's gateway breaks it off",
    },
    {
        cases = { "raw: v1 chat" },
        fields = { "result.body.choices.*.message.refusal", "result.body.choices.*.message.tool_calls",
            "result.body.provider" },
        why = "OpenAI's face passes on what the model server said, without MLflow's fields",
    },
    {
        cases = { "raw: v1 chat as a stream" },
        fields = { "result.body.*.choices.*.delta.tool_calls", "result.body.*.choices.*.delta.content",
            "result.body.*.choices.*.delta.role", "result.body.*.provider", "result.body.*.usage" },
        ours = { ["result.body.*.provider"] = "nothing", ["result.body.*.usage"] = "nothing" },
        why = "the same of a stream",
    },
    {
        cases = { "raw: v1 chat as a stream" },
        fields = { "result.body.*" },
        ours = { ["result.body.*"] = '"data: [DONE]"' },
        why = "OpenAI's streams end with [DONE], and without a usage that nobody asked for",
    },
    {
        cases = { "raw: v1 chat as a stream" },
        fields = { "result.headers.cache-control" },
        ours = { ["result.headers.cache-control"] = '"no-cache"' },
        why = "a stream is never kept by a proxy",
    },
    {
        cases = { "raw: v1 no model", "raw: v1 model null", "raw: v1 no such model" },
        fields = { "result." },
        ours = { ["result.status"] = "/^40[04]$/" },
        why = UNKNOWN,
    },
}
