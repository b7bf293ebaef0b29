--- The commands of moonflow: one description of which the parser, help, completion and the manual page
-- are made. Plain data; nothing is loaded for it but the options.
--
-- A command:
--   name       the word
--   summary    one line, small letters, no full stop
--   group      heading of the general help: "run", "deploy", "look", "help"; top level only
--   arguments  list of { key, metavar, help, optional?, many?, complete?, choices? }, in their order
--   options    list of options of its own; those in `commands.globals` hold for every command
--   commands   list of commands below it; then it has no `run`
--   run        { module, function }: called with the table of values by key. The table also has
--              `command`, the list of the words that named the command ({ "endpoints", "list" })
--   full_name  how it is called, "moonflow endpoints list"; added here
--   host       true where the words behind the command are left as they are: run and serve read them
--              themselves, and `run` of another gets them as a list
--   examples   list of { "what it does", "command line" }
--   hidden     true: known, but not in help or completion
--   details    further lines of help
--
-- An option:
--   key       the name of its value in the table that `run` gets
--   names     "-t", "--target", ...: the last but any short one is the usual one
--   metavar   what stands for its value; without it the option is a flag (true)
--   many      the values of all its uses, as a list
--   count     a flag whose value is how often it was given
--   type      "duration" (500ms, 30s, 5m, 2h, or seconds; the value is in seconds), "count" (an integer from 0)
--   choices   the values there are
--   required  true
--   complete  what to offer for its value: "target", "endpoint", "deployment", "file", "directory",
--             "config", "topic", "shell"
--   help      one line
local options = require "moonflow.cli.options"

local commands = { globals = options.global }

commands.groups = {
    { key = "deploy", title = "DEPLOY" },
    { key = "run", title = "RUN AND EXPLORE" },
    { key = "look", title = "TARGETS" },
    { key = "help", title = "HELP" },
}

local NAME = { key = "endpoint", metavar = "NAME", complete = "endpoint", help = "name of the endpoint" }
local OPTIONAL_NAME = {
    key = "endpoint_word", metavar = "NAME", complete = "endpoint", optional = true, help = "the same as --endpoint",
}
local TEXT = {
    key = "text_input", metavar = "TEXT", optional = true,
    help = "what to ask or embed; in place of --input-path",
}

local function handler(name)
    return { "moonflow.cli.deployments", name }
end

local function example(what, line)
    return { what, line }
end

local deployments = {
    {
        name = "create", summary = "deploy a model under a new name", run = handler "create",
        options = { options.name, options.required_model_uri, options.flavor, options.endpoint, options.config },
    },
    {
        name = "update", summary = "change a deployment's model, flavor or settings", run = handler "update",
        options = { options.name, options.model_uri, options.flavor, options.endpoint, options.config },
    },
    {
        name = "delete", summary = "delete a deployment", run = handler "delete",
        options = { options.name, options.endpoint, options.config },
    },
    { name = "list", summary = "list all deployments", run = handler "list", options = { options.endpoint } },
    {
        name = "get", summary = "describe one deployment", run = handler "get",
        options = { options.name, options.endpoint },
    },
    {
        name = "predict", summary = "query a deployment or an endpoint", run = handler "predict", arguments = { TEXT },
        options = {
            options.optional_name, options.endpoint, options.input, options.output_path, options.stream, options.text,
        },
        examples = { example("ask with the JSON of a file", "moonflow deployments predict -e chat -I request.json") },
    },
    {
        name = "explain", summary = "explanations of a model's predictions", run = handler "explain",
        options = { options.optional_name, options.endpoint, options.input, options.output_path },
    },
    {
        name = "run-local", summary = "serve a model on this machine, where the target can", run = handler "run_local",
        options = { options.name, options.required_model_uri, options.flavor, options.config },
    },
    {
        name = "help", summary = "how a target is written, and its settings", run = handler "target_help",
    },
    {
        name = "create-endpoint", summary = "create an endpoint", run = handler "create_endpoint",
        arguments = { OPTIONAL_NAME }, options = { options.endpoint, options.config },
    },
    {
        name = "update-endpoint", summary = "change an endpoint's settings", run = handler "update_endpoint",
        arguments = { OPTIONAL_NAME }, options = { options.endpoint, options.config },
    },
    {
        name = "delete-endpoint", summary = "delete an endpoint", run = handler "delete_endpoint",
        arguments = { OPTIONAL_NAME }, options = { options.endpoint },
    },
    { name = "list-endpoints", summary = "list all endpoints", run = handler "list_endpoints" },
    {
        name = "get-endpoint", summary = "describe one endpoint", run = handler "get_endpoint",
        arguments = { OPTIONAL_NAME }, options = { options.endpoint },
    },
}

local endpoints = {
    {
        name = "list", summary = "list all endpoints", run = handler "list_endpoints",
        examples = { example("only the names", "moonflow endpoints list -o name") },
    },
    { name = "get", summary = "describe one endpoint", run = handler "get_endpoint", arguments = { NAME } },
    {
        name = "create", summary = "create an endpoint", run = handler "create_endpoint", arguments = { NAME },
        options = { options.config },
        examples = {
            example("with the configuration in a file", "moonflow endpoints create chat -C @endpoint.json"),
            example("with a setting in the command",
                "moonflow endpoints create chat -C config.traffic_config.routes:='[]'"),
        },
    },
    {
        name = "update", summary = "change an endpoint's settings", run = handler "update_endpoint",
        arguments = { NAME }, options = { options.config },
    },
    { name = "delete", summary = "delete an endpoint", run = handler "delete_endpoint", arguments = { NAME } },
    {
        name = "wait", summary = "wait until an endpoint serves what it was given last", run = handler "wait",
        arguments = { NAME }, options = { options.wait_for },
        examples = { example("twenty minutes at most", "moonflow endpoints wait chat --timeout 20m") },
    },
    {
        name = "query", summary = "query an endpoint", run = handler "predict", arguments = { NAME, TEXT },
        options = { options.input, options.output_path, options.stream, options.text },
    },
}

local serve_options = {
    { key = "host", names = { "--host" }, metavar = "HOST", help = "the address to listen on (127.0.0.1)" },
    { key = "port", names = { "--port" }, metavar = "PORT", help = "the port (5000; 0: any that is free)" },
    {
        key = "token_file", names = { "--token-file" }, metavar = "FILE", complete = "file",
        help = "clients must send the token that is this file's first line",
    },
    {
        key = "fault", names = { "--fault" }, metavar = "FAULT", many = true,
        help = "something that goes wrong, to try a workflow with",
    },
    { key = "log", names = { "--log" }, help = "a line for each request, on standard error" },
}

local no_rc = { key = "no_rc", names = { "--no-rc" }, help = "do not run the start-up file" }
local no_history = { key = "no_history", names = { "--no-history" }, help = "neither read nor write the history" }

commands.list = {
    {
        name = "deployments", group = "deploy", commands = deployments,
        summary = "the commands of mlflow deployments, with its names and flags",
    },
    {
        name = "endpoints", group = "deploy", commands = endpoints, summary = "the same for endpoints, in short",
    },
    {
        name = "predict", group = "deploy", summary = "query an endpoint", run = handler "predict",
        arguments = { TEXT },
        options = {
            options.endpoint, options.optional_name, options.input, options.output_path, options.stream, options.text,
        },
        examples = {
            example("ask", "moonflow predict -e chat \"What is an endpoint?\""),
            example("the same, word by word", "moonflow predict -e chat --stream \"What is an endpoint?\""),
            example("with JSON of another program", "generate | moonflow predict -e chat -I - -q 'r.usage'"),
        },
    },
    {
        name = "run", group = "run", host = true,
        summary = "run a Lua script; also: moonflow ./script.lua, moonflow -",
        arguments = {
            { key = "script", metavar = "SCRIPT", complete = "file", help = "the file; - is standard input" },
            { key = "words", metavar = "ARG", optional = true, many = true, help = "arguments of the script" },
        },
        examples = {
            example("run code", "moonflow -e 'print(require(\"moonflow.sys\").version)'"),
            example("print a value", "moonflow -p '1 + 1'"),
        },
    },
    {
        name = "repl", group = "run", summary = "explore; the same as moonflow without words on a terminal",
        run = { "moonflow.repl", "main" }, options = { no_rc, no_history },
    },
    {
        name = "serve", group = "run", host = true,
        summary = "MLflow's deployments server, for MLflow's and OpenAI's clients",
        arguments = {
            {
                key = "file", metavar = "FILE.lua", optional = true, complete = "file",
                help = "returns a list of endpoints; without it a demonstration is served",
            },
        },
        options = serve_options,
    },
    {
        name = "targets", group = "look", summary = "the targets there are", run = { "moonflow.cli.targets", "run" },
        arguments = {
            {
                key = "action", metavar = "ACTION", optional = true, choices = { "list", "help" },
                help = "list (the default), or help on one",
            },
            { key = "scheme", metavar = "SCHEME", optional = true, complete = "target", help = "the target, for help" },
        },
        examples = { example("how a target is written", "moonflow targets help databricks") },
    },
    {
        name = "doctor", group = "look", summary = "what is used, as whom, and whether it answers",
        run = { "moonflow.cli.doctor", "run" },
    },
    {
        name = "help", group = "help", summary = "help on a command, a topic or a Lua name",
        run = { "moonflow.cli.help", "run" },
        arguments = {
            {
                key = "topic", metavar = "TOPIC", optional = true, many = true, complete = "topic",
                help = "a command, a topic such as exit-codes, or a Lua name such as client.predict",
            },
        },
        options = { { key = "man", names = { "--man" }, help = "print the manual page" } },
    },
    {
        name = "completion", group = "help", summary = "a script for the shell that completes the command line",
        run = { "moonflow.cli.completion", "run" },
        arguments = {
            {
                key = "shell", metavar = "SHELL", choices = { "bash", "zsh", "fish" }, complete = "shell",
                help = "bash, zsh or fish",
            },
        },
        examples = { example("for this session", "source <(moonflow completion bash)") },
    },
    { name = "version", group = "help", summary = "print the version", run = { "moonflow.cli", "version" } },
    {
        name = "__complete", hidden = true, host = true, summary = "what completion scripts ask",
        run = { "moonflow.cli.completion", "complete" },
        arguments = { { key = "words", metavar = "WORD", optional = true, many = true, help = "the line so far" } },
    },
}

--- All of it, as a command without a name.
commands.root = {
    summary = "MLflow's deployment clients as a Lua scripting host",
    commands = commands.list,
    -- The forms that are no commands.
    usage = [[
usage: moonflow [options] COMMAND [ARGS...]     one of the commands below
       moonflow [options] SCRIPT [ARGS...]      run a Lua script; "-" is standard input
       moonflow [options] run SCRIPT [ARGS...]  the same, for any file name
       moonflow [options] -e CODE [ARGS...]     run Lua code
       moonflow [options] -p EXPR [ARGS...]     print the value of a Lua expression
       moonflow [options]                       on a terminal: explore; else run standard input

A first word is a script when it has a "/", ends in ".lua", or is "-".

  --plugin-dir DIR   look for plugins in DIR first (may be repeated)
  --version          print the version
  --help             print this; COMMAND --help lists the options that every command has
]],
}

local function add_full_names(command, name)
    command.full_name = name
    for _, below in ipairs(command.commands or {}) do
        add_full_names(below, name .. " " .. below.name)
    end
end

add_full_names(commands.root, "moonflow")

return commands
