// KeyState: the key space at one revision, as simple as can be: what a range over everything must answer.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;
using Cairn.Base;

namespace Cairn.Simulation;

internal sealed class KeyState : IEquatable<KeyState>
{
    private readonly SortedDictionary<string, Pair> _keys = new(StringComparer.Ordinal);
    private long _next;
    private bool _changed;

    /// <summary>Revision of the last change; the one before the first is 1.</summary>
    public long LastRevision { get; private set; } = 1;

    public static KeyState Parse(ReadOnlySpan<byte> rangeResponse, long revision)
    {
        var state = new KeyState { LastRevision = revision };
        var reader = new ProtoReader(rangeResponse);
        while (reader.NextField())
        {
            if (reader.Field == 2)
            {
                (string key, Pair pair) = ParsePair(reader.ReadBytes());
                state._keys.Add(key, pair);
            }
            else
            {
                reader.Skip();
            }
        }

        return state;
    }

    /// <summary>The state after a write; the same revision if it changes nothing.</summary>
    public KeyState After(MemberWorld.Write write)
    {
        var next = new KeyState { _next = LastRevision + 1, LastRevision = LastRevision };
        foreach ((string key, Pair pair) in _keys)
        {
            next._keys.Add(key, pair);
        }

        write.Apply?.Invoke(next);
        next.LastRevision = next._changed ? next._next : LastRevision;
        return next;
    }

    public void Put(string key, string value)
    {
        bool exists = _keys.TryGetValue(key, out Pair pair);
        _keys[key] = new Pair(value, exists ? pair.Created : _next, _next, exists ? pair.Version + 1 : 1);
        _changed = true;
    }

    public void Delete(string key, string end)
    {
        var doomed = new List<string>();
        foreach (string candidate in _keys.Keys)
        {
            bool inside = end.Length == 0
                ? candidate == key
                : string.CompareOrdinal(candidate, key) >= 0 && string.CompareOrdinal(candidate, end) < 0;
            if (inside)
            {
                doomed.Add(candidate);
            }
        }

        foreach (string candidate in doomed)
        {
            _keys.Remove(candidate);
            _changed = true;
        }
    }

    public bool Equals(KeyState? other)
    {
        if (other is null || other._keys.Count != _keys.Count)
        {
            return false;
        }

        foreach ((string key, Pair pair) in _keys)
        {
            if (!other._keys.TryGetValue(key, out Pair theirs) || theirs != pair)
            {
                return false;
            }
        }

        return true;
    }

    public override bool Equals(object? obj) => Equals(obj as KeyState);

    public override int GetHashCode() => _keys.Count;

    public override string ToString()
    {
        var text = new StringBuilder();
        foreach ((string key, Pair pair) in _keys)
        {
            string value = pair.Value.Length > 12 ? pair.Value[..12] : pair.Value;
            text.Append(CultureInfo.InvariantCulture, $"{key}={value}@{pair.Created}/{pair.Modified}#{pair.Version} ");
        }

        return text.ToString();
    }

    private static (string Key, Pair Pair) ParsePair(ReadOnlySpan<byte> message)
    {
        string key = string.Empty;
        string value = string.Empty;
        long[] numbers = new long[8];
        var reader = new ProtoReader(message);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    key = Encoding.ASCII.GetString(reader.ReadBytes());
                    break;
                case 5:
                    value = Encoding.ASCII.GetString(reader.ReadBytes());
                    break;
                default:
                    numbers[reader.Field] = reader.ReadInt64();
                    break;
            }
        }

        return (key, new Pair(value, numbers[2], numbers[3], numbers[4]));
    }

    private readonly record struct Pair(string Value, long Created, long Modified, long Version);
}
