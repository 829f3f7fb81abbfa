// StoreHarness: a store over a tree file in a temporary directory, its tree actor polled by the test itself.
using System;
using System.IO;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Leases;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Xunit;

namespace Cairn.Core.Tests.Mvcc;

internal sealed class ThrowingFatal : IFatal
{
    [System.Diagnostics.CodeAnalysis.DoesNotReturn]
    public void Stop(string message, Exception? cause = null) => throw new InvalidOperationException("fatal: " + message, cause);
}

internal sealed class StoreHarness : IDisposable
{
    private const long StepNs = 1_000_000_000;
    private readonly string _directory = Directory.CreateTempSubdirectory("cairn-mvcc-").FullName;
    private readonly MvccOptions _options;
    private readonly IFileSystem _files;
    private NativeBuffer _output;
    private ulong _index;

    public StoreHarness(string? copyOfDb = null, int compactionBatchLimit = 1000, IFileSystem? files = null, int compactionPauseSteps = 1)
    {
        _files = files ?? PosixFileSystem.Instance;
        if (copyOfDb is not null)
        {
            File.Copy(copyOfDb, DbPath);
        }

        _options = new MvccOptions { Pool = Pool, CompactionBatchLimit = compactionBatchLimit, CompactionPauseNs = compactionPauseSteps * StepNs, PinSlots = 64 };
        _output = new NativeBuffer(Pool);
        Open();
    }

    public NativePool Pool { get; } = new();

    public Tree Tree { get; private set; } = null!;

    public MvccStore Store { get; private set; } = null!;

    public Lessor Leases { get; private set; } = null!;

    public HeaderFields Header { get; set; } = new(1, 2, 3);

    /// <summary>False: entries are applied as on a member that nobody asked.</summary>
    public bool WantsResponse { get; set; } = true;

    public string DbPath => Path.Combine(_directory, "db");

    /// <summary>Virtual time of the tree actor: every poll is a long while after the last.</summary>
    public long NowNs { get; private set; }

    public void Reopen()
    {
        Freeze();
        Close();
        Open();
    }

    /// <summary>Stops without a freeze: what was not frozen is lost.</summary>
    public void Crash()
    {
        Close();
        Open();
    }

    public (ErrorCode Error, byte[] Body) Put(byte[] request) => Apply(request, static (store, bytes, context, output) =>
    {
        ErrorCode error = store.Put(bytes, context, ref output.Buffer);
        return error;
    });

    public (ErrorCode Error, byte[] Body) DeleteRange(byte[] request) =>
        Apply(request, static (store, bytes, context, output) => store.DeleteRange(bytes, context, ref output.Buffer));

    public (ErrorCode Error, byte[] Body) Txn(byte[] request) =>
        Apply(request, static (store, bytes, context, output) => store.Txn(bytes, context, ref output.Buffer));

    public (ErrorCode Error, byte[] Body) Compact(byte[] request) =>
        Apply(request, static (store, bytes, context, output) => store.Compact(bytes, context, ref output.Buffer));

    /// <summary>A range as a client sees it: on the newest View.</summary>
    public (ErrorCode Error, byte[] Body) Range(byte[] request)
    {
        ViewPin pin = Store.Pin();
        try
        {
            _output.Reset();
            ErrorCode error = Store.Range(request, pin, Header, ref _output);
            return (error, error == ErrorCode.None ? _output.WrittenSpan.ToArray() : []);
        }
        finally
        {
            Store.Unpin(pin);
        }
    }

    public (ErrorCode Error, byte[] Body) ReadTxn(byte[] request)
    {
        ViewPin pin = Store.Pin();
        try
        {
            _output.Reset();
            ErrorCode error = Store.ReadTxn(request, pin, Header, ref _output);
            return (error, error == ErrorCode.None ? _output.WrittenSpan.ToArray() : []);
        }
        finally
        {
            Store.Unpin(pin);
        }
    }

    public uint HashKv(long revision)
    {
        Assert.Equal(ErrorCode.None, Store.HashKv(revision, out HashKvResult result));
        return result.Hash;
    }

    /// <summary>Freezes and runs the tree actor until the commit is durable.</summary>
    public void Freeze(ReadOnlySpan<byte> confState = default)
    {
        Assert.True(Store.TryFreeze(new FreezePoint(_index, 3, confState)));
        Pump(() => !Store.IsFrozen);
        Assert.Equal(_index, Store.DurableIndex);
    }

    /// <summary>Runs compaction and everything else in the background to its end.</summary>
    public void Settle()
    {
        Freeze();
        Pump(() => Store.FinishedCompactRevision == Store.CompactRevision && !Store.Work(NowNs));
    }

    /// <summary>Time goes by without a poll.</summary>
    public void Pass(int steps) => NowNs += steps * StepNs;

    /// <summary>One poll of the tree actor and one slice of background work.</summary>
    public bool Step()
    {
        NowNs += StepNs;
        bool did = Store.TreeActor.Poll(NowNs);
        return Store.Work(NowNs) | did;
    }

    public void Pump(Func<bool> until)
    {
        for (int i = 0; !until(); i++)
        {
            Assert.True(i < 1_000_000, "the background work comes to an end");
            _ = Step();
        }
    }

    public void Dispose()
    {
        _output.Free();
        Close();
        Directory.Delete(_directory, recursive: true);
    }

    private delegate ErrorCode Operation(MvccStore store, byte[] request, ApplyContext context, OutputBox output);

    private sealed class OutputBox
    {
        public NativeBuffer Buffer;
    }

    private (ErrorCode Error, byte[] Body) Apply(byte[] request, Operation operation)
    {
        _index++;
        _output.Reset();
        var box = new OutputBox { Buffer = _output };
        ErrorCode error = operation(Store, request, new ApplyContext(Leases, Header, WantsResponse), box);
        _output = box.Buffer;
        Store.PublishView();
        return (error, error == ErrorCode.None ? _output.WrittenSpan.ToArray() : []);
    }

    private void Open()
    {
        var fatal = new ThrowingFatal();
        Tree = Tree.Open(_files, DbPath, new TreeOptions { NoSync = true, ReserveBytes = 1L << 30 }, fatal);
        Store = MvccStore.Open(Tree, _options, fatal);
        _index = Math.Max(Store.DurableIndex, 1);
        Leases = new Lessor(minTtlSeconds: 2, hashSeed: 7);
        Leases.Restore(Store);
        Store.RestoreLeases(Leases);
    }

    private void Close()
    {
        // The machine's rule: a commit under way is finished before the files are closed.
        Pump(() => !Store.IsFrozen);
        Store.Dispose();
        Tree.Dispose();
        Leases.Dispose();
    }
}
