// FetchActor: reads old entries back from WAL files for peers that lag; a thread of its own, because it waits for the disk.
//
// Threads    fetch: Poll. raft: Ask, TryTake, GiveBack. Buffers go round: raft gives one with each request and gets it
//            back with the result, so that nothing is allocated once each has its size.
using Cairn.Base;
using Cairn.Core.Raft;
using Cairn.Wal;

namespace Cairn.Core.Server;

/// <summary>What came of a fetch.</summary>
internal struct FetchResult
{
    public FetchRequest Request;
    public WalReadStatus Status;

    /// <summary>The entries when the status is Ok; goes back with <see cref="FetchActor.GiveBack"/>.</summary>
    public WalEntryBuffer Buffer;
}

/// <summary>Reads the log's files.</summary>
internal sealed class FetchActor : IActor
{
    private const int Buffers = 4;
    private readonly WalLog _wal;
    private readonly IFatal _fatal;
    private readonly IWaker _raft;
    private readonly IWaker _self;
    private readonly SpscRing<FetchResult> _asked = new(8);
    private readonly SpscRing<FetchResult> _done = new(8);
    private readonly WalEntryBuffer[] _free = new WalEntryBuffer[Buffers];
    private int _freeCount;

    internal FetchActor(WalLog wal, IFatal fatal, IWaker raft, IWaker self)
    {
        _wal = wal;
        _fatal = fatal;
        _raft = raft;
        _self = self;
        for (int i = 0; i < Buffers; i++)
        {
            _free[_freeCount++] = new WalEntryBuffer();
        }
    }

    /// <inheritdoc/>
    public string RoleName => "fetch";

    /// <inheritdoc/>
    public long NextDeadlineNs => long.MaxValue;

    /// <summary>One more request can be taken. Raft.</summary>
    internal bool HasRoom => _freeCount > 0;

    /// <summary>Raft, while <see cref="HasRoom"/>.</summary>
    internal void Ask(in FetchRequest request)
    {
        bool taken = _asked.TryEnqueue(new FetchResult { Request = request, Buffer = _free[--_freeCount] });
        Invariant.Check(taken, "there are fewer buffers than places in the ring");
        _self.Wake();
    }

    /// <summary>Raft.</summary>
    internal bool TryTake(out FetchResult result) => _done.TryDequeue(out result);

    /// <summary>Raft: the entries were used.</summary>
    internal void GiveBack(WalEntryBuffer buffer)
    {
        buffer.Clear();
        _free[_freeCount++] = buffer;
    }

    /// <inheritdoc/>
    public bool Poll(long nowNs)
    {
        if (!_asked.TryDequeue(out FetchResult job))
        {
            return false;
        }

        FetchRequest request = job.Request;
        try
        {
            job.Status = _wal.ReadEntries(
                request.FirstIndex, request.FirstIndex + (ulong)request.MaxCount, request.MaxBytes, job.Buffer);
        }
        catch (FileSystemException e)
        {
            _fatal.Stop($"could not read entry {request.FirstIndex} back from the log: {e.Message}", e);
        }

        if (job.Status == WalReadStatus.Damaged)
        {
            _fatal.Stop(
                $"entry {request.FirstIndex} of the log in {_wal.Directory} is not what was written: the disk has lost or "
                + "changed synced data; replace it and let this member join anew");
        }

        _ = _done.TryEnqueue(job);
        _raft.Wake();
        return true;
    }
}
