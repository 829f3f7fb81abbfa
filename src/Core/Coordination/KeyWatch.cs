// KeyWatch: one watcher of our own on the hub, for those who wait inside the server: for the key before theirs in a queue,
// or for the next leader. It has a stream of its own, so that one who does not take its events holds up nobody else.
//
// Thread     The call that waits owns it; the hub only wakes the caller (IWatchSink).
// Cost       A small stream and one watcher while somebody waits. Messages are copied out: nothing here is hot.
using System;
using System.Buffers.Binary;
using Cairn.Base;
using Cairn.Core.Mvcc.Watch;
using Cairn.Core.Protocol;

namespace Cairn.Core.Coordination;

/// <summary>A running watch of a key or a range; ends with Dispose.</summary>
internal sealed class KeyWatch : IWatchSink, IDisposable
{
    /// <summary>Requests that ever wait for the hub: the one that makes the watcher.</summary>
    private const int Requests = 2;

    private const int FramePrefix = 5;
    private readonly WatchStream _stream;
    private readonly ICaller _caller;

    /// <param name="hub">Where to watch.</param>
    /// <param name="caller">Woken when there is something to take.</param>
    /// <param name="key">The key, or the first of the range.</param>
    /// <param name="end">Empty: the one key.</param>
    /// <param name="start">First revision to hear of.</param>
    /// <param name="deletesOnly">Puts are of no interest.</param>
    public KeyWatch(WatchHub hub, ICaller caller, ReadOnlySpan<byte> key, ReadOnlySpan<byte> end, long start, bool deletesOnly)
    {
        _caller = caller;
        _stream = hub.Open(this, Requests);
        var create = new WatchCreateRequest { Key = key, RangeEnd = end, StartRevision = start, NoPut = deletesOnly };
        Invariant.Check(_stream.TryCreate(in create, ErrorCode.None), "a new stream has room for a request");
    }

    /// <inheritdoc/>
    public void FramesReady() => _caller.Wake();

    /// <inheritdoc/>
    public void RoomForRequests()
    {
        // There is never a second request.
    }

    /// <summary>The next WatchResponse; null when there is none yet. Allocates it.</summary>
    public byte[]? TryTake()
    {
        ReadOnlySpan<byte> frames = _stream.Peek();
        if (frames.IsEmpty)
        {
            return null;
        }

        int length = BinaryPrimitives.ReadInt32BigEndian(frames[1..]);
        byte[] message = frames.Slice(FramePrefix, length).ToArray();
        _ = _stream.Take(FramePrefix + length);
        return message;
    }

    public void Dispose() => _stream.Close();
}

/// <summary>What a WatchResponse says, read event by event.</summary>
internal ref struct WatchNews
{
    private MessageReader _reader;

    public WatchNews(ReadOnlySpan<byte> response)
    {
        _reader = new MessageReader(response);
        IsDelete = false;
        Pair = default;
        PairBytes = default;
        HasEnded = false;
    }

    /// <summary>The present event took its key away.</summary>
    public bool IsDelete { get; private set; }

    /// <summary>The pair of the present event.</summary>
    public KeyValue Pair { get; private set; }

    /// <summary>The same, encoded.</summary>
    public ReadOnlySpan<byte> PairBytes { get; private set; }

    /// <summary>The watcher was cancelled: what it needed is compacted. Known after the last event.</summary>
    public bool HasEnded { get; private set; }

    /// <summary>Moves to the next event.</summary>
    public bool Next()
    {
        while (_reader.NextField())
        {
            switch (_reader.Field)
            {
                case 4:
                    HasEnded = _reader.ReadBool();
                    break;
                case 11:
                    Read(_reader.ReadBytes());
                    return true;
                default:
                    _reader.Skip();
                    break;
            }
        }

        Invariant.Check(!_reader.Failed, "the hub's own messages parse");
        return false;
    }

    // mvccpb.Event {1 type, 2 kv, 3 prev_kv}
    private void Read(ReadOnlySpan<byte> bytes)
    {
        IsDelete = false;
        PairBytes = default;
        var reader = new MessageReader(bytes);
        while (reader.NextField())
        {
            if (reader.Field == 1)
            {
                IsDelete = reader.ReadInt32() == 1;
            }
            else if (reader.Field == 2)
            {
                PairBytes = reader.ReadBytes();
            }
            else
            {
                reader.Skip();
            }
        }

        Invariant.Check(KeyValue.TryParse(PairBytes, out KeyValue pair), "an event's pair parses");
        Pair = pair;
    }
}
