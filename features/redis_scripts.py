"""The scripts that read and write rows in a Redis: each sees or makes one moment of the database, in one round trip.

All are given the key of the epoch first, and first of their arguments the epoch that it has to hold.
"""

from __future__ import annotations

from typing import Final

READ: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local n = tonumber(ARGV[2])
return {redis.call('HMGET', KEYS[2], unpack(ARGV, 3, 2 + n)), redis.call('HMGET', KEYS[3], unpack(ARGV, 3 + n))}
"""
"""Keys: a state, a profile. Arguments: how many fields the state has, those, the profile's."""

READ_MANY: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local n = tonumber(ARGV[2])
local found = {}
for i = 2, #KEYS, 2 do
  found[i - 1] = redis.call('HMGET', KEYS[i], unpack(ARGV, 3, 2 + n))
  found[i] = redis.call('HMGET', KEYS[i + 1], unpack(ARGV, 3 + n))
end
return found
"""
"""``READ`` of pairs of keys."""

_IS_AHEAD: Final = """
local function is_ahead(key, version, position)
  local found = redis.call('HMGET', key, ARGV[2], ARGV[3])
  local message = found[2]
  if found[1] ~= version or not message or string.byte(message, 1) ~= 32 then return false end
  local value, scale = 0, 1
  for i = 2, #message do
    value = value + (string.byte(message, i) % 128) * scale
    scale = scale * 128
  end
  return value > position
end
"""
"""Whether a state is further in the log than a position, folded by the same feature set. 32 is Feast's tag of an
integer, which follows it seven bits a byte; positions are below 2^53, where Lua's numbers are exact."""

WRITE: Final = f"""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
{_IS_AHEAD}
local key, at = 2, 4
while key <= #KEYS do
  local rows, first, is_old = tonumber(ARGV[at]), at + 1, false
  at = first
  for i = key, key + rows - 1 do
    local position, n = tonumber(ARGV[at]), tonumber(ARGV[at + 2])
    if position and not is_old then is_old = is_ahead(KEYS[i], ARGV[at + 1], position) end
    at = at + 3 + n
  end
  if not is_old then
    at = first
    for i = key, key + rows - 1 do
      local n = tonumber(ARGV[at + 2])
      redis.call('HSET', KEYS[i], unpack(ARGV, at + 3, at + 2 + n))
      if ARGV[at] ~= '' then redis.call('PERSIST', KEYS[i]) end
      at = at + 3 + n
    end
  end
  key = key + rows
end
return 1
"""
"""Keys: the rows of one customer after another. Arguments: the fields of a state's version and position; of each
customer how many rows; of each row the position, empty for a profile, the version as it is kept, how many values, and
these. Nothing of a customer is written of whom any state is ahead."""

FORGET: Final = f"""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
{_IS_AHEAD}
local rows, position = tonumber(ARGV[4]), tonumber(ARGV[5])
for key = 2, #KEYS, rows do
  local is_old = false
  for i = 1, position and rows - 1 or 0 do is_old = is_old or is_ahead(KEYS[key + i], ARGV[6 + i], position) end
  if not is_old then
    redis.call('UNLINK', unpack(KEYS, key, key + rows - 1))
    for i = 1, position and rows - 1 or 0 do
      redis.call('HSET', KEYS[key + i], ARGV[2], ARGV[6 + i], ARGV[3], ARGV[6])
      redis.call('EXPIRE', KEYS[key + i], ARGV[5 + rows + 1])
    end
  end
end
return 1
"""
"""Keys: of one customer after another the profile, and the states. Arguments: the fields of a state's version and
position; how many rows a customer has; the position as of which they are gone, empty where anything may be written
after; that as it is kept; the version of each state; and for how many seconds what is left of a state stays, which is
no more than version and position: a write of what was known before finds that it is ahead."""
