// Question  what do a put (with its part of a commit, not synced), a point read and a scanned entry cost in the tree?
// Method    a million entries of 17 + 300 bytes as the store writes them; puts append behind them, 1,000 to a commit, and the next
//           invocation takes them away again, so that the file does not grow.
using System;
using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.IO;
using BenchmarkDotNet.Attributes;
using Cairn.Base;
using Cairn.Btree;

namespace Cairn.Bench.Micro;

public class TreeBenchmarks
{
    private const int Entries = 1_000_000, Step = 1000;
    private readonly byte[] _key = new byte[17];
    private readonly byte[] _value = new byte[300];
    private string _folder = "";
    private Tree _tree = null!;
    private TreePin _pin;
    private uint _random = 1;

    [GlobalSetup]
    public void Begin()
    {
        _folder = Directory.CreateTempSubdirectory("cairn-micro-").FullName;
        _key[8] = (byte)'_';
        _tree = Tree.Open(
            PosixFileSystem.Instance, Path.Combine(_folder, "db"), new TreeOptions { ReserveBytes = 8L << 30, PageSize = 4096, NoSync = true }, Loud.Instance);
        for (int first = 0; first < Entries; first += 10 * Step)
        {
            Fill(first, 10 * Step);
        }

        _pin = _tree.Pin();
    }

    [GlobalCleanup]
    public void End()
    {
        _tree.Unpin(_pin);
        _tree.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Benchmark(Description = "tree: an entry put and deleted again, two commits", OperationsPerInvoke = Step)]
    public void PutAndDelete()
    {
        Fill(Entries, Step);
        TreeWriter writer = _tree.BeginWrite();
        TreeBucket bucket = writer.CreateBucketIfMissing("key"u8);
        for (int i = 0; i < Step; i++)
        {
            BinaryPrimitives.WriteInt64BigEndian(_key, Entries + i);
            bucket.Delete(_key);
        }

        writer.Commit();
    }

    [Benchmark(Description = "tree: a point read at random, of a million", OperationsPerInvoke = Step)]
    public int Get()
    {
        int found = 0;
        _ = new TreeReader(_tree, _pin.Root).TryGetBucket("key"u8, out BucketReader bucket);
        for (int i = 0; i < Step; i++)
        {
            _random = (_random * 1664525) + 1013904223;
            BinaryPrimitives.WriteInt64BigEndian(_key, _random % Entries);
            found += bucket.TryGet(_key, out ReadOnlySpan<byte> value) ? value.Length : 0;
        }

        return found;
    }

    [Benchmark(Description = "tree: an entry passed by a cursor", OperationsPerInvoke = Step)]
    public int Scan()
    {
        int seen = 0;
        _ = new TreeReader(_tree, _pin.Root).TryGetBucket("key"u8, out BucketReader bucket);
        TreeCursor cursor = bucket.Cursor();
        _random = (_random * 1664525) + 1013904223;
        BinaryPrimitives.WriteInt64BigEndian(_key, _random % (Entries - Step));
        _ = cursor.Seek(_key);
        for (int i = 0; i < Step && cursor.IsValid; i++, cursor.Next())
        {
            seen += cursor.Key.Length + cursor.Value.Length;
        }

        return seen;
    }

    private void Fill(int first, int count)
    {
        TreeWriter writer = _tree.BeginWrite();
        TreeBucket bucket = writer.CreateBucketIfMissing("key"u8);
        bucket.FillPercent = 0.9;
        for (int i = first; i < first + count; i++)
        {
            BinaryPrimitives.WriteInt64BigEndian(_key, i);
            bucket.Put(_key, _value);
        }

        writer.Commit();
    }
}

/// <summary>A broken invariant ends the run.</summary>
internal sealed class Loud : IFatal
{
    public static readonly Loud Instance = new();

    [DoesNotReturn]
    public void Stop(string message, Exception? cause = null) => throw new InvalidOperationException(message, cause);
}
