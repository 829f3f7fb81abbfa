// Question  what do a put, a range of one key, and the same in the key index alone cost in the store, and a watcher's event in the hub?
// Method    100,000 keys of 32 bytes, values of 256. Puts write them again, one view each as a lone write has it; when as many
//           operations are buffered as a member allows, the buffer is frozen and committed (not synced) within the measurement.
using System;
using System.IO;
using System.Text;
using BenchmarkDotNet.Attributes;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Leases;
using Cairn.Core.Mvcc;
using Cairn.Core.Mvcc.Watch;
using Cairn.Core.Protocol;

namespace Cairn.Bench.Micro;

public unsafe class StoreBenchmarks : IWatchSink
{
    private const int Keys = 100_000, Step = 1000, Watchers = 10_000, OpsPerFreeze = 10_000;
    private readonly byte[][] _keys = new byte[Keys][];
    private readonly byte[][] _puts = new byte[Keys][];
    private readonly byte[][] _ranges = new byte[Keys][];
    private readonly NativePool _pool = new();
    private readonly HeaderFields _header = new(1, 2, 3);
    private string _folder = "";
    private Tree _tree = null!;
    private MvccStore _store = null!;
    private Lessor _leases = null!;
    private WatchHub _hub = null!;
    private WatchStream _stream = null!;
    private KeyIndex _index = null!;
    private NativeBuffer _output;
    private byte[] _watched = [];
    private ulong _applied = 1;
    private long _nowNs;
    private long _main;
    private uint _random = 1;

    [GlobalSetup]
    public void Begin()
    {
        _folder = Directory.CreateTempSubdirectory("cairn-micro-").FullName;
        _tree = Tree.Open(PosixFileSystem.Instance, Path.Combine(_folder, "db"), new TreeOptions { NoSync = true, ReserveBytes = 16L << 30 }, Loud.Instance);
        _store = MvccStore.Open(_tree, new MvccOptions { Pool = _pool, PinSlots = 64 }, Loud.Instance);
        _leases = new Lessor(minTtlSeconds: 2, hashSeed: 7);
        _output = new NativeBuffer(_pool);
        _index = new KeyIndex();
        _index.Reclaimer.CurrentView = 1;
        for (int i = 0; i < Keys; i++)
        {
            _keys[i] = Encoding.ASCII.GetBytes(FormattableString.Invariant($"/registry/bench/{(uint)i * 2654435761u:d16}"));
            _puts[i] = Message(_keys[i], new byte[256]);
            _ranges[i] = Message(_keys[i], []);
            _ = _index.FindForInsert(_keys[i], out int position);
            _index.Insert(_index.Histories.NewRecord(_keys[i], ++_main + 1, 0), position);
            PutOne(_puts[i]);
        }

        _watched = Message("watched"u8, new byte[64]);
        _hub = new WatchHub(_store, new WatchOptions { StreamBytesMax = 64 << 20 }, _pool, new SystemRandom(), () => _header);
        _stream = _hub.Open(this);
        WatchCreateRequest create = default;
        create.Key = "watched"u8;
        for (int i = 0; i < Watchers;)
        {
            i += _stream.TryCreate(in create, ErrorCode.None) ? 1 : 0;
            Drain();
        }
    }

    [GlobalCleanup]
    public void End()
    {
        _stream.Close();
        _ = _hub.Poll(++_nowNs);
        _hub.Dispose();
        Pump();
        _output.Free();
        _store.Dispose();
        _tree.Dispose();
        _leases.Dispose();
        _index.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Benchmark(Description = "key index: a key found at random, of 100,000", OperationsPerInvoke = Step)]
    public long IndexFind()
    {
        long sum = 0;
        for (int i = 0; i < Step; i++)
        {
            sum += _index.Find(_keys[Next()])->KeyLength;
        }

        return sum;
    }

    [Benchmark(Description = "key index: a new key put in and taken out", OperationsPerInvoke = Step)]
    public void IndexInsert()
    {
        Span<byte> key = stackalloc byte[32];
        for (int i = 0; i < Step; i++)
        {
            _keys[Next()].CopyTo(key);
            key[^1] = (byte)'x';
            if (_index.FindForInsert(key, out int position) == null)
            {
                _index.Insert(_index.Histories.NewRecord(key, ++_main + 1, 0), position);
                _index.Remove(key);
            }
        }

        _index.Reclaimer.CurrentView++;
        _index.Reclaimer.Collect(_index.Reclaimer.CurrentView, int.MaxValue);
    }

    [Benchmark(Description = "mvcc: a put, its part of a freeze and commit included", OperationsPerInvoke = Step)]
    public void Put()
    {
        for (int i = 0; i < Step; i++)
        {
            PutOne(_puts[Next()]);
        }
    }

    [Benchmark(Description = "mvcc: a range of one key, pin included", OperationsPerInvoke = Step)]
    public long Range()
    {
        long sum = 0;
        for (int i = 0; i < Step; i++)
        {
            ViewPin pin = _store.Pin();
            _output.Reset();
            ErrorCode error = _store.Range(_ranges[Next()], pin, _header, ref _output);
            sum += error == ErrorCode.None ? _output.WrittenSpan.Length : throw new InvalidOperationException(error.ToString());
            _store.Unpin(pin);
        }

        return sum;
    }

    [Benchmark(Description = "watch: an event for one of 10,000 watchers of a key", OperationsPerInvoke = Watchers)]
    public int FanOut()
    {
        PutOne(_watched);
        return Drain();
    }

    void IWatchSink.FramesReady()
    {
    }

    void IWatchSink.RoomForRequests()
    {
    }

    private static byte[] Message(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        var writer = new ProtoWriter(new byte[key.Length + value.Length + 16]);
        writer.WriteBytesField(1, key);
        writer.WriteBytesFieldIfSet(2, value);
        return writer.Written.ToArray();
    }

    private int Next()
    {
        _random = (_random * 1664525) + 1013904223;
        return (int)(_random % Keys);
    }

    private void PutOne(byte[] request)
    {
        _applied++;
        _output.Reset();
        ErrorCode error = _store.Put(request, new ApplyContext(_leases, _header, wantsResponse: true), ref _output);
        Invariant.Check(error == ErrorCode.None, "a put is applied");
        _store.PublishView();
        if (_store.PendingOps >= OpsPerFreeze)
        {
            bool frozen = _store.TryFreeze(new FreezePoint(_applied, 3, default));
            Invariant.Check(frozen, "the last freeze is over");
            Pump();
        }
    }

    private void Pump()
    {
        while (_store.IsFrozen)
        {
            _nowNs += 1_000_000_000;
            _ = _store.TreeActor.Poll(_nowNs);
            _ = _store.Work(_nowNs);
        }
    }

    private int Drain()
    {
        while (_hub.Poll(++_nowNs))
        {
        }

        int bytes = 0;
        for (ReadOnlySpan<byte> frames = _stream.Peek(); !frames.IsEmpty; frames = _stream.Peek())
        {
            bytes += frames.Length;
            _ = _stream.Take(frames.Length);
        }

        return bytes;
    }
}
