--- The options of the command line, as moonflow.cli.commands uses them. The form of an option is
-- described there.
local options = {}

--- Those that every command has, before its name or behind it.
options.global = {
    {
        key = "target", names = { "-t", "--target", "--target-name" }, metavar = "URI", complete = "target",
        help = "where: http://HOST:PORT, databricks, databricks://PROFILE, openai, or a plugin's name",
    },
    {
        key = "output", names = { "-o", "--output" }, metavar = "FORMAT",
        choices = { "table", "json", "jsonl", "name" },
        help = "table, json, jsonl or name; without it a table on a terminal, and else JSON",
    },
    {
        key = "query", names = { "-q", "--query" }, metavar = "LUA",
        help = "print this expression over the result r; a string as it is",
    },
    {
        key = "timeout", names = { "--timeout" }, metavar = "TIME", type = "duration",
        help = "give up after so long with all attempts: 500ms, 30s, 5m, or seconds",
    },
    {
        key = "connect_timeout", names = { "--connect-timeout" }, metavar = "TIME", type = "duration",
        help = "time to connect (10s)",
    },
    {
        key = "retries", names = { "--retries" }, metavar = "N", type = "count",
        help = "how often a request is repeated",
    },
    { key = "yes", names = { "-y", "--yes" }, help = "do not ask before something is deleted" },
    { key = "quiet", names = { "--quiet" }, help = "no messages but errors" },
    {
        key = "plugin_dir", names = { "--plugin-dir" }, metavar = "DIR", many = true, complete = "directory",
        help = "look for plugins in DIR first",
    },
    {
        key = "verbose", names = { "-v", "--verbose" }, count = true,
        help = "show requests and retries; -vv their headers too",
    },
    { key = "debug", names = { "--debug" }, help = "show bodies too, without secrets, cut at 4 kB" },
    { key = "curl", names = { "--curl" }, help = "print the curl command that does the same, and send nothing" },
    { key = "dry_run", names = { "--dry-run" }, help = "print what would be sent, and send nothing" },
    { key = "help", names = { "-h", "--help" }, help = "print help on the command" },
}

options.config = {
    key = "config", names = { "-C", "--config" }, metavar = "KEY=VALUE", many = true, complete = "config",
    help = "a setting: KEY=text, KEY:=JSON, A.B.C=text for nested ones, or @FILE.json; may be repeated",
}

options.name = {
    key = "name", names = { "-n", "--name" }, metavar = "NAME", complete = "deployment", required = true,
    help = "name of the deployment",
}

options.optional_name = {
    key = "name", names = { "-n", "--name" }, metavar = "NAME", complete = "deployment",
    help = "name of the deployment; either this or --endpoint",
}

options.endpoint = {
    key = "endpoint", names = { "-e", "--endpoint" }, metavar = "NAME", complete = "endpoint",
    help = "name of the endpoint",
}

options.model_uri = {
    key = "model_uri", names = { "-m", "--model-uri" }, metavar = "URI", complete = "file",
    help = "URI of the model",
}

options.required_model_uri = {
    key = "model_uri", names = { "-m", "--model-uri" }, metavar = "URI", complete = "file", required = true,
    help = "URI of the model",
}

options.flavor = {
    key = "flavor", names = { "-f", "--flavor" }, metavar = "NAME",
    help = "flavor of the model; the target chooses without it",
}

options.input = {
    key = "input_path", names = { "-I", "--input-path" }, metavar = "FILE", complete = "file",
    help = "file of JSON to send; - is standard input",
}

options.output_path = {
    key = "output_path", names = { "-O", "--output-path" }, metavar = "FILE", complete = "file",
    help = "write the result to FILE, as JSON unless -o says else",
}

options.stream = { key = "stream", names = { "-s", "--stream" }, help = "print the answer's parts as they come" }

options.text = { key = "text", names = { "--text" }, help = "print only the text of the answer" }

options.wait_for = {
    key = "wait_for", names = { "--for" }, metavar = "STATE", choices = { "ready", "not_updating" },
    help = "ready (the default) or not_updating",
}

return options
