// WatchStream: one Watch call as the hub sees it, and the hub as the call sees it.
//
// Threads    Three parties, each with its own members: the call's reader (TryCreate, TryCancel, TryProgress, one task),
//            the call's writer (Peek, Take, one task), and the hub (everything internal below "hub"). Between them:
//            a bounded ring of requests, the queue of frames, and a poke: a stream is put on the hub's list at most once.
// Bound      The hub does not take requests while the frames wait for the client; the ring fills up, the reader stops,
//            and the client is held back by HTTP/2's window. So a client that never reads costs StreamBytesMax plus
//            StreamRequestsMax requests.
using System;
using System.Threading;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Mvcc.Watch;

/// <summary>Told by the hub, on its thread: must only wake somebody.</summary>
public interface IWatchSink
{
    /// <summary>There are frames to take.</summary>
    void FramesReady();

    /// <summary>A request that was refused because the ring was full can be tried again.</summary>
    void RoomForRequests();
}

internal enum WatchCommandKind : byte
{
    Create,
    Refuse,
    Cancel,
    Progress,
}

/// <summary>One request on its way to the hub.</summary>
internal unsafe struct WatchCommand
{
    public WatchCommandKind Kind;
    public WatcherFlags Flags;
    public ErrorCode Refusal;

    /// <summary>Key and range end of a create request; the command's until the hub has taken it.</summary>
    public NativeBlock* Bytes;
    public int KeyLength;
    public int EndLength;
    public long Start;
    public long Id;
}

/// <summary>One stream of watchers. Made by <see cref="WatchHub.Open"/>.</summary>
public sealed unsafe class WatchStream
{
    private readonly WatchHub _hub;
    private readonly NativePool _pool;
    private readonly SpscRing<WatchCommand> _requests;
    private int _poked;
    private int _wantsRequestRoom;
    private int _wantsFrameRoom;
    private long _roomAt;
    private bool _closed;

    internal WatchStream(WatchHub hub, NativePool pool, int requestsMax, WatchFigures figures, IWatchSink sink)
    {
        _hub = hub;
        _pool = pool;
        Sink = sink;
        Frames = new FrameQueue(pool, figures);
        _requests = new SpscRing<WatchCommand>(
            (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Max(2, requestsMax)));
    }

    // ---- the call's reader ----

    /// <summary>Hands a create request over; copies what it needs. False: full, wait for room and try again.</summary>
    /// <param name="request">As it came.</param>
    /// <param name="permission">What the check of permissions said; anything but None refuses the watcher.</param>
    public bool TryCreate(scoped in WatchCreateRequest request, ErrorCode permission)
    {
        var command = new WatchCommand
        {
            Kind = permission == ErrorCode.None ? WatchCommandKind.Create : WatchCommandKind.Refuse,
            Refusal = permission,
            Id = request.WatchId,
            Start = request.StartRevision,
            Flags = (request.NoPut ? WatcherFlags.NoPut : 0)
                | (request.NoDelete ? WatcherFlags.NoDelete : 0)
                | (request.PrevKv ? WatcherFlags.PrevKv : 0)
                | (request.Fragment ? WatcherFlags.Fragment : 0)
                | (request.ProgressNotify ? WatcherFlags.ProgressNotify : 0),
        };
        if (permission == ErrorCode.None)
        {
            // An empty key is the smallest there is; an end of one zero byte is none.
            ReadOnlySpan<byte> key = request.Key.IsEmpty ? "\0"u8 : request.Key;
            bool open = request.RangeEnd.Length == 1 && request.RangeEnd[0] == 0;
            ReadOnlySpan<byte> end = open ? default : request.RangeEnd;
            command.KeyLength = key.Length;
            command.EndLength = open ? WatchTarget.OpenEnd : end.IsEmpty ? WatchTarget.SingleKey : end.Length;
            command.Bytes = _pool.Rent(key.Length + end.Length);
            Span<byte> room = NativeBlock.Room(command.Bytes);
            key.CopyTo(room);
            end.CopyTo(room[key.Length..]);
        }

        if (TrySubmit(command))
        {
            return true;
        }

        if (command.Bytes != null)
        {
            _pool.Return(command.Bytes);
        }

        return false;
    }

    /// <summary>Hands a cancel request over. False: full.</summary>
    public bool TryCancel(long id) => TrySubmit(new WatchCommand { Kind = WatchCommandKind.Cancel, Id = id });

    /// <summary>Hands a progress request over. False: full.</summary>
    public bool TryProgress() => TrySubmit(new WatchCommand { Kind = WatchCommandKind.Progress });

    // ---- the call's writer ----

    /// <summary>Complete gRPC frames to send next, one behind the other; empty when there are none.</summary>
    public ReadOnlySpan<byte> Peek() => Frames.Peek();

    /// <summary>So many bytes of <see cref="Peek"/> have been copied.</summary>
    /// <returns>How many messages they completed; the sum over time is exact.</returns>
    public int Take(int bytes)
    {
        int messages = Frames.Take(bytes);
        if (Volatile.Read(ref _wantsFrameRoom) != 0
            && Frames.Queued <= Volatile.Read(ref _roomAt)
            && Interlocked.Exchange(ref _wantsFrameRoom, 0) != 0)
        {
            Poke();
        }

        return messages;
    }

    /// <summary>Ends the stream and its watchers. Neither reader nor writer may use it afterwards.</summary>
    public void Close()
    {
        Volatile.Write(ref _closed, true);
        Poke();
    }

    // ---- the hub ----

    internal IWatchSink Sink { get; }

    internal FrameQueue Frames { get; }

    internal int Index { get; set; }

    internal int FirstWatcher { get; set; }

    internal int WatcherCount { get; set; }

    /// <summary>Ids in use: watchers, and those that a compaction ended.</summary>
    internal int IdCount { get; set; }

    internal int FirstLagging { get; set; }

    internal int LastLagging { get; set; }

    internal int LaggingCount { get; set; }

    internal bool InLaggingList { get; set; }

    internal int FutureCount { get; set; }

    internal int ProgressCount { get; set; }

    internal long NextProgressNs { get; set; }

    internal long NextId { get; set; }

    internal bool IsDirty { get; set; }

    /// <summary>Closed, and everything of it given back.</summary>
    internal bool IsGone { get; set; }

    internal WatchStream? NextPoked { get; set; }

    internal bool IsClosed => Volatile.Read(ref _closed);

    /// <summary>Called before the hub looks at the stream, so that a later change pokes again.</summary>
    internal void Unpoke() => Interlocked.Exchange(ref _poked, 0);

    internal void Poke()
    {
        if (Interlocked.Exchange(ref _poked, 1) == 0)
        {
            _hub.Push(this);
        }
    }

    internal bool TryTakeRequest(out WatchCommand command) => _requests.TryDequeue(out command);

    internal bool HasRequests => !_requests.IsEmpty;

    /// <summary>After requests were taken.</summary>
    internal void TellRequestRoom()
    {
        if (Interlocked.Exchange(ref _wantsRequestRoom, 0) != 0)
        {
            Sink.RoomForRequests();
        }
    }

    /// <summary>Asks for a poke once no more than so many bytes wait.</summary>
    internal void WantFrameRoom(long roomAt)
    {
        Volatile.Write(ref _roomAt, roomAt);
        _ = Interlocked.Exchange(ref _wantsFrameRoom, 1);
        if (Frames.Queued <= roomAt && Interlocked.Exchange(ref _wantsFrameRoom, 0) != 0)
        {
            Poke(); // drained meanwhile, perhaps by a writer that did not see the wish
        }
    }

    private bool TrySubmit(in WatchCommand command)
    {
        if (!_requests.TryEnqueue(command))
        {
            _ = Interlocked.Exchange(ref _wantsRequestRoom, 1);
            if (!_requests.TryEnqueue(command))
            {
                return false;
            }
        }

        Poke();
        return true;
    }
}
