--- The endpoints of tests.yaml for `moonflow serve`: the same names, types and models, passed on to the same
-- model servers. MOONFLOW_TEST_UPSTREAM is the URL of tests/servers/upstream.py, MOONFLOW_TEST_AIMOCK that of
-- aimock (nothing listens there where aimock is not installed).

local NOBODY = "http://127.0.0.1:1/v1"
local upstream = os.getenv("MOONFLOW_TEST_UPSTREAM") or NOBODY
local aimock = os.getenv("MOONFLOW_TEST_AIMOCK") or NOBODY

--- An endpoint that is passed on. MLflow's gateway has its key in its configuration, and repeats nothing.
local function endpoint(name, kind, model, url, key, limit)
    return {
        name = name,
        endpoint_type = "llm/v1/" .. kind,
        model = { name = model, provider = "openai" },
        target = "openai:" .. url,
        endpoint = model,
        options = { api_key = key or "not-needed", max_retries = 0 },
        limit = limit,
    }
end

return {
    endpoint("chat", "chat", "gpt-3.5-turbo", upstream),
    endpoint("completions", "completions", "gpt-3.5-turbo-instruct", upstream),
    endpoint("embeddings", "embeddings", "text-embedding-3-small", upstream),
    endpoint("limited", "chat", "gpt-3.5-turbo", upstream, nil, { renewal_period = "minute", calls = 2 }),
    endpoint("refused", "chat", "gpt-3.5-turbo", upstream, "refused"),
    endpoint("unreachable", "chat", "gpt-3.5-turbo", NOBODY),
    endpoint("aimock-chat", "chat", "gpt-4o", aimock),
    endpoint("aimock-embeddings", "embeddings", "text-embedding-3-small", aimock),
}
