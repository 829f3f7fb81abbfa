// WalRecovery: everything an opened log contained. Built by the opening thread, read by whoever starts raft.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Cairn.Wal;

/// <summary>The content of a log after its start snapshot. Owns the native memory of the payloads.</summary>
public sealed unsafe class WalRecovery : IDisposable
{
    private readonly List<nint> _blocks = [];
    private readonly List<string> _warnings = [];
    private WalEntry* _entries;
    private int _count;
    private int _capacity;

    ~WalRecovery() => Free();

    /// <summary>etcdserverpb.Metadata bytes as recorded, our own fields included.</summary>
    public byte[] Metadata { get; internal set; } = [];

    /// <summary>The last hard state, empty when none was written.</summary>
    public WalHardState HardState { get; internal set; }

    /// <summary>Entries after the start snapshot, consecutive. Valid until <see cref="Dispose"/>.</summary>
    public ReadOnlySpan<WalEntry> Entries => new(_entries, _count);

    /// <summary>Index of the last entry, or of the start snapshot when there is none.</summary>
    public ulong LastIndex { get; internal set; }

    /// <summary>True when a snapshot record equal to the start was seen (always for index 0).</summary>
    public bool StartFound { get; internal set; }

    /// <summary>True when a torn tail was cut off; a <c>.broken</c> copy lies beside the segment.</summary>
    public bool Repaired { get; internal set; }

    /// <summary>Lines for the operator.</summary>
    public IReadOnlyList<string> Warnings => _warnings;

    /// <summary>Frees the payloads; every entry pointer becomes invalid.</summary>
    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    internal void Own(byte* block) => _blocks.Add((nint)block);

    internal void Warn(string line) => _warnings.Add(line);

    /// <summary>True if an entry may stand at its index: no gap before it, no fall of the term.</summary>
    internal bool Accepts(ulong index, ulong term, ulong startIndex)
    {
        ulong position = index - startIndex - 1;
        return position <= (ulong)_count && (position == 0 || _entries[position - 1].Term <= term);
    }

    /// <summary>Places an accepted entry; everything from its position on is replaced.</summary>
    internal void Place(in WalEntry entry, ulong startIndex)
    {
        ulong position = entry.Index - startIndex - 1;
        if ((int)position == _capacity)
        {
            _capacity = Math.Max(1024, checked(_capacity * 2));
            _entries = (WalEntry*)NativeMemory.Realloc(_entries, (nuint)_capacity * (nuint)sizeof(WalEntry));
        }

        _entries[(int)position] = entry;
        _count = (int)position + 1;
    }

    private void Free()
    {
        foreach (nint block in _blocks)
        {
            NativeMemory.Free((void*)block);
        }

        _blocks.Clear();
        NativeMemory.Free(_entries);
        _entries = null;
        _count = _capacity = 0;
    }
}
