-- Processor time that the office's own rules take for messages that grow: `rspamadm lua -b FILE`
local rspamd_ip, rspamd_task = require "rspamd_ip", require "rspamd_task"
local rules, redis, mime = {}, require "lua_redis", require "lua_mime"
redis.parse_redis_server = function() return {} end
redis.add_redis_script = function() return 1 end
redis.exec_redis_script = function() return true end
redis.redis_make_request = function() return true end
mime.modify_headers = function() end
rspamd_config = {
  register_symbol = function(_, rule) rules[rule.name] = rule.callback end,
  register_dependency = function() end,
}
dofile("/etc/rspamd/lua.local.d/office.lua")

local stranger = rspamd_ip.from_string("203.0.113.9")
local replies = {
  get_from_ip = function() return stranger end,
  get_user = function() end,
  get_dkim_results = function() return { { result = "allow", domain = "b.test", selector = "s", bhash = "b" } } end,
  get_from = function() return { { addr = "", user = "mailer-daemon" } } end,
  set_pre_result = function() end,
}
local function took(message, login)
  local ok, task = rspamd_task.load_from_string(message)
  assert(ok and task:process_message())
  local seen = setmetatable({}, { __index = function(_, name)
    if name == "get_user" and login then return function() return login end end
    return replies[name] or function(_, ...) return task[name](task, ...) end
  end })
  collectgarbage()
  local start = os.clock()
  for _, rule in pairs(rules) do rule(seen) end
  local spent = os.clock() - start
  task:destroy()
  return spent
end

local head = "From: a@b.test\r\nTo: c@d.test\r\nSubject: s\r\n"
local function part(fields, body)
  return head .. "Content-Type: multipart/mixed; boundary=cut\r\n\r\n--cut\r\n" .. fields .. "\r\n\r\n" .. (body or "x")
    .. "\r\n--cut--\r\n"
end
local WHERE = {
  name = function(text) return part("Content-Type: application/pdf; name" .. text) end,
  disposition = function(text) return part("Content-Disposition: attachment; " .. text) end,
  filename = function(text) return part('Content-Disposition: attachment; filename="' .. text .. '"') end,
  from = function(text) return "From: a@b.test " .. text .. "\r\n\r\nx" end,
  author = function(text) return 'From: "' .. text .. '" <a@b.test>\r\n\r\nx' end,
  domain = function(text) return "From: a@" .. text .. "\r\n\r\nx" end,
  references = function(text) return head .. "References: " .. text .. "\r\n\r\nx" end,
  signature = function(text) return head .. "DKIM-Signature: " .. text .. "\r\n\r\nx" end,
  kind = function(text) return head .. "Content-Type: " .. text .. "\r\n\r\nx" end,
  body = function(text) return head .. "\r\n" .. text end,
  attachment = function(text) return part("Content-Type: application/zip; name=a.zip", text) end,
  base64 = function(text) return part("Content-Type: application/x-a\r\nContent-Transfer-Encoding: base64", text) end,
  quoted = function(text) return part("Content-Type: application/x-a\r\nContent-Transfer-Encoding: quoted-printable", text) end,
  drawing = function(text) return part("Content-Type: image/svg+xml; name=a.svg", text) end,
}
local PIECES = {
  " ", "a", "(", "<", "<a", "a@", ".", "a.", "= ", "\\", "%", ":", "name ", "name=", "name*1*=a;", "\nbegin", "begin ", "\nmessage-id:<",
  " on", " ona ", "&#6", "\204\129", "\204\129\204\167", "PK\3\4", "\226\128\139", "\226\136\128", "\201\145", "alice ", "xn--a.", "\239\183\186",
  "=?u?b?", "=?u?b?YQ?=",
}

local length, times = 8192, 4
local worst = {}
-- The last octet differs: otherwise a rule that searches at the end of a field would match at once.
local function fill(piece, size) return string.rep(piece, math.ceil(size / #piece)) .. "x" end
local function least(make, size)
  local best
  for _ = 1, 2 do
    local spent = took(make(size))
    if not best or spent < best then best = spent end
    if best < 0.002 then break end
  end
  return best
end
local idle = least(function(size) return WHERE.body(fill("word ", size)) end, length * times)
for where, made in pairs(WHERE) do
  for _, piece in ipairs(PIECES) do
    local small = least(function(size) return made(fill(piece, size)) end, length)
    local large = least(function(size) return made(fill(piece, size)) end, length * times)
    worst[#worst + 1] = { where = where, piece = piece, small = small, large = large, ratio = large / math.max(small, idle / times) }
    -- a rule that is far from linear would delay the others by minutes
    if worst[#worst].ratio > 3 * times then
      print(string.format("%.1f %s %q", worst[#worst].ratio, where, piece))
      os.exit(0)
    end
  end
end
table.sort(worst, function(one, other) return one.ratio > other.ratio end)
for at = 1, 5 do print(string.format("%.1f %s %q", worst[at].ratio, worst[at].where, worst[at].piece)) end
