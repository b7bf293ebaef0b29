--- The endpoints of pages.py for `moonflow serve`: so many that they are listed in two pages.

local COUNT = 3002

local endpoints = {}
for i = 1, COUNT do
    endpoints[i] = {
        name = "e" .. i,
        endpoint_type = "llm/v1/chat",
        model = { name = "m", provider = "openai" },
        target = "openai:http://127.0.0.1:1/v1",
        endpoint = "m",
        options = { api_key = "not-needed" },
    }
end
return endpoints
