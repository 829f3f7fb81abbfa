// HpackTable: the dynamic table of one connection's decoder (RFC 7541 section 2.3.2).
//
// Thread     the connection's loop.
// Layout     Bytes of the entries lie one after the other, oldest first, in an array twice the table's size; when its end is
//            reached the living ones move to the front. Memory is taken with the first entry, never more than the limit.
using System;

namespace Cairn.Net.Http2;

/// <summary>Recently seen headers.</summary>
internal sealed class HpackTable
{
    /// <summary>The size we announce (the protocol's default), bytes.</summary>
    public const int Limit = 4096;

    private const int Overhead = 32;
    private const int EntriesMax = Limit / Overhead;

    private byte[] _bytes = [];
    private Entry[] _entries = [];
    private int _first; // oldest entry
    private int _count;
    private int _size;
    private int _max = Limit;
    private int _tail; // where the next entry's bytes go

    /// <summary>Entries held.</summary>
    public int Count => _count;

    /// <summary>Size by the rules of HPACK, bytes.</summary>
    public int Size => _size;

    /// <summary>The client chose another size, at most <see cref="Limit"/>.</summary>
    public void Resize(int max)
    {
        _max = max;
        Evict(0);
    }

    /// <summary>An entry; 0 is the newest. False when there is none. The spans are valid until the next insertion.</summary>
    public bool TryGet(int index, out HeaderName known, out ReadOnlySpan<byte> name, out ReadOnlySpan<byte> value)
    {
        if ((uint)index >= (uint)_count)
        {
            known = HeaderName.Other;
            name = default;
            value = default;
            return false;
        }

        ref Entry entry = ref _entries[(_first + _count - 1 - index) % EntriesMax];
        known = entry.Known;
        name = _bytes.AsSpan(entry.Start, entry.NameLength);
        value = _bytes.AsSpan(entry.Start + entry.NameLength, entry.ValueLength);
        return true;
    }

    /// <summary>Adds an entry, dropping old ones. One that is larger than the table empties it.</summary>
    /// <param name="known">Meaning of the name.</param>
    /// <param name="name">Must not point into this table.</param>
    /// <param name="value">Must not point into this table.</param>
    public void Insert(HeaderName known, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        long size = (long)name.Length + value.Length + Overhead;
        if (size > _max)
        {
            _first = _count = _size = _tail = 0;
            return;
        }

        Evict((int)size);
        if (_bytes.Length == 0)
        {
            _bytes = new byte[2 * Limit];
            _entries = new Entry[EntriesMax];
        }

        int length = name.Length + value.Length;
        if (_tail + length > _bytes.Length)
        {
            MoveToFront();
        }

        name.CopyTo(_bytes.AsSpan(_tail));
        value.CopyTo(_bytes.AsSpan(_tail + name.Length));
        _entries[(_first + _count) % EntriesMax] = new Entry
        {
            Start = (ushort)_tail,
            NameLength = (ushort)name.Length,
            ValueLength = (ushort)value.Length,
            Known = known,
        };
        _count++;
        _tail += length;
        _size += (int)size;
    }

    private void Evict(int room)
    {
        while (_count > 0 && _size + room > _max)
        {
            ref Entry oldest = ref _entries[_first];
            _size -= oldest.NameLength + oldest.ValueLength + Overhead;
            _first = (_first + 1) % EntriesMax;
            _count--;
        }
    }

    private void MoveToFront()
    {
        int from = _count == 0 ? _tail : _entries[_first].Start;
        _bytes.AsSpan(from, _tail - from).CopyTo(_bytes);
        for (int i = 0; i < _count; i++)
        {
            _entries[(_first + i) % EntriesMax].Start -= (ushort)from;
        }

        _tail -= from;
    }

    private struct Entry
    {
        public ushort Start;
        public ushort NameLength;
        public ushort ValueLength;
        public HeaderName Known;
    }
}
