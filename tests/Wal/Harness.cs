// Harness: temporary directories, an IFatal that throws, a hand-set clock and a short way to feed a WalActor.
using System;
using System.Collections.Generic;
using System.Diagnostics.CodeAnalysis;
using System.IO;
using System.Runtime.InteropServices;
using Cairn.Base;

namespace Cairn.Wal.Tests;

internal sealed class FatalException(string message, Exception? cause) : Exception(message, cause);

internal sealed class ThrowingFatal : IFatal
{
    [DoesNotReturn]
    public void Stop(string message, Exception? cause = null) => throw new FatalException(message, cause);
}

internal sealed class HandClock : IClock
{
    public long NowNs { get; set; } = 1_000_000_000;

    public long UnixMilliseconds => NowNs / 1_000_000;
}

internal sealed class TempDirectory : IDisposable
{
    public TempDirectory()
    {
        Path = System.IO.Path.Combine(System.IO.Path.GetTempPath(), "cairn-wal-" + Guid.NewGuid().ToString("N"));
        Directory.CreateDirectory(Path);
    }

    public string Path { get; }

    public string Wal => Path + "/wal";

    public void Dispose() => Directory.Delete(Path, recursive: true);
}

/// <summary>Feeds one actor and polls it on the calling thread.</summary>
internal sealed unsafe class Writer : IDisposable
{
    public static readonly WalOptions Small = new() { SegmentBytes = 64 << 10, FillPauseNs = 0 };

    private readonly List<nint> _memory = [];

    public Writer(WalLog log, IWalObserver? observer = null)
    {
        Log = log;
        Actor = new WalActor(log, Clock, new ThrowingFatal(), observer);
    }

    public HandClock Clock { get; } = new();

    public WalLog Log { get; }

    public WalActor Actor { get; }

    public ulong Sequence { get; private set; }

    /// <summary>Queues one unit of entries (all of one term) and a state.</summary>
    public ulong Enqueue(ulong term, ulong firstIndex, byte[][] payloads, WalHardState? state = null, WalSnapshotMark? snapshot = null, ulong release = 0)
    {
        WalUnit unit = new() { Sequence = ++Sequence, EntryCount = payloads.Length, ReleaseIndex = release };
        unit.Entries = (WalEntry*)Allocate(payloads.Length * sizeof(WalEntry));
        for (int i = 0; i < payloads.Length; i++)
        {
            byte* data = (byte*)Allocate(payloads[i].Length);
            payloads[i].CopyTo(new Span<byte>(data, payloads[i].Length));
            unit.Entries[i] = new WalEntry { Term = term, Index = firstIndex + (ulong)i, Data = data, Length = payloads[i].Length };
        }

        if (state is { } given)
        {
            unit.HasHardState = true;
            (unit.Term, unit.Vote, unit.Commit) = (given.Term, given.Vote, given.Commit);
        }

        if (snapshot is { } mark)
        {
            unit.HasSnapshot = true;
            (unit.SnapshotIndex, unit.SnapshotTerm) = (mark.Index, mark.Term);
            unit.SnapshotConfState = (byte*)Allocate(mark.ConfState.Length);
            unit.SnapshotConfStateLength = mark.ConfState.Length;
            mark.ConfState.Span.CopyTo(new Span<byte>(unit.SnapshotConfState, mark.ConfState.Length));
        }

        Xunit.Assert.True(Actor.TryEnqueue(unit));
        return Sequence;
    }

    /// <summary>Queues and polls until durable.</summary>
    public void Append(ulong term, ulong firstIndex, byte[][] payloads, WalHardState? state = null, WalSnapshotMark? snapshot = null, ulong release = 0)
    {
        ulong sequence = Enqueue(term, firstIndex, payloads, state, snapshot, release);
        Settle();
        Xunit.Assert.Equal(sequence, Actor.DurableSequence);
    }

    /// <summary>One entry of a given type.</summary>
    public void AppendTyped(byte type, ulong term, ulong index, byte[] payload, WalHardState state)
    {
        WalEntry* entry = (WalEntry*)Allocate(sizeof(WalEntry));
        byte* data = (byte*)Allocate(payload.Length);
        payload.CopyTo(new Span<byte>(data, payload.Length));
        *entry = new WalEntry { Type = type, Term = term, Index = index, Data = data, Length = payload.Length };
        WalUnit unit = new() { Sequence = ++Sequence, Entries = entry, EntryCount = 1, HasHardState = true };
        (unit.Term, unit.Vote, unit.Commit) = (state.Term, state.Vote, state.Commit);
        Xunit.Assert.True(Actor.TryEnqueue(unit));
        Settle();
        Xunit.Assert.Equal(Sequence, Actor.DurableSequence);
    }

    public void Settle()
    {
        while (Actor.Poll(Clock.NowNs))
        {
        }
    }

    public void Dispose()
    {
        Actor.Dispose();
        Log.Dispose();
        foreach (nint block in _memory)
        {
            NativeMemory.Free((void*)block);
        }
    }

    private void* Allocate(int bytes)
    {
        void* block = NativeMemory.Alloc((nuint)Math.Max(bytes, 1));
        _memory.Add((nint)block);
        return block;
    }
}

internal static class Payload
{
    /// <summary>Bytes that can be recognised: a counter, then a pattern.</summary>
    public static byte[] Of(int number, int length)
    {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++)
        {
            bytes[i] = (byte)((number * 31) + (i * 7) + 1);
        }

        return bytes;
    }
}
