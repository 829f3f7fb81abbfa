// RpcCall: one gRPC call as a handler sees it. Nothing here names the HTTP/2 engine, so that the engine can be
// replaced: Http2Call is our own, KestrelCall the framework's.
//
// Thread     One handler at a time; its continuations may run on any I/O thread.
// Lifetime   Pooled with the stream of the connection: valid until the handler's task ends, then reused.
// Why        A unary call allocates nothing here: the request is read in place, the answer is written in place.
// Streams    A handler of a stream in both directions may run two loops at once: one that reads (ReadAsync) and one that
//            writes (BeginMessage, Append, FlushAsync); each side has one task at a time. Question and answer need
//            one loop only:
//                while (await call.ReadAsync()) { ...; call.Write(answer); if (!await call.FlushAsync()) break; }
//            Otherwise the writing loop sleeps in WaitAsync, and whoever has something for it calls Notify:
//                ValueTask reading = ReadLoopAsync(call);          // per message: parse, hand over
//                while (!call.IsOver) { write what there is; flush; if nothing: await call.WaitAsync(); }
//                await reading;                                    // never return before both loops have ended
//            The call is over when the client has gone, its deadline has passed, or somebody called End (server stop,
//            lost leader): then ReadAsync and FlushAsync answer false and WaitAsync returns; neither throws. A client
//            that half-closes (ReadAsync false, IsOver false) still reads answers. The status is that of End unless
//            the handler failed the call first. FlushAsync is the flow control: while it waits, produce nothing.
using System;
using System.Threading;
using System.Threading.Tasks;

namespace Cairn.Net.Rpc;

/// <summary>A call: request message, metadata, deadline; answer messages and status.</summary>
public abstract class RpcCall
{
    /// <summary>The entry of the table.</summary>
    public RpcMethod Method { get; protected set; } = null!;

    /// <summary>Monotonic ns at which the headers had been read.</summary>
    public long ReceivedNs { get; protected set; }

    /// <summary>Monotonic ns after which the client no longer waits; <see cref="long.MaxValue"/> when it always does.</summary>
    public long DeadlineNs { get; protected set; }

    /// <summary>The status so far; <see cref="RpcCode.Ok"/> unless failed.</summary>
    public RpcCode Status { get; private set; }

    /// <summary>The text beside <see cref="Status"/>.</summary>
    public string StatusMessage { get; private set; } = "";

    /// <summary>Messages written so far.</summary>
    public int MessagesSent { get; protected set; }

    /// <summary>
    /// The current request message. Borrowed: valid until <see cref="ReleaseRequest"/>, the next
    /// <see cref="ReadAsync"/>, or the end of the handler.
    /// </summary>
    public abstract ReadOnlySpan<byte> Request { get; }

    /// <summary>The metadata <c>token</c>, or else <c>authorization</c>; null when absent.</summary>
    public abstract string? Token { get; }

    /// <summary>True when the client wants an error rather than a wait while there is no leader.</summary>
    public abstract bool RequiresLeader { get; }

    /// <summary>The metadata <c>client-api-version</c>; null when absent.</summary>
    public abstract string? ClientApiVersion { get; }

    /// <summary>
    /// Signalled when the client has gone or the deadline has passed. Asking for it allocates: for streams only.
    /// </summary>
    public abstract CancellationToken Cancelled { get; }

    /// <summary>
    /// Gives the request bytes back to the connection. Call before waiting: held bytes count against the window of
    /// the whole connection.
    /// </summary>
    public abstract void ReleaseRequest();

    /// <summary>Reads the next message of a client stream into <see cref="Request"/>.</summary>
    /// <returns>False when the client has half-closed, or the call is over or has failed meanwhile.</returns>
    public abstract ValueTask<bool> ReadAsync();

    /// <summary>Starts an answer message of exactly <paramref name="length"/> bytes, to be given by <see cref="Append"/>.</summary>
    public abstract void BeginMessage(int length);

    /// <summary>Copies the next part of the message begun.</summary>
    public abstract void Append(ReadOnlySpan<byte> part);

    /// <summary>Sends what has been written and waits while the client's window is full.</summary>
    /// <returns>False when the client has gone; the handler should end.</returns>
    public abstract ValueTask<bool> FlushAsync();

    /// <summary>
    /// Streams and long calls (<see cref="RpcMethod.IsLong"/>) only, as are the four below: the client has gone, the
    /// deadline has passed, or <see cref="End"/> was called.
    /// </summary>
    public abstract bool IsOver { get; }

    /// <summary>
    /// Streams only: sleeps until <see cref="Notify"/> (one since the last wait ends it at once) or until the call is
    /// over. One waiter at a time; may return without a reason. Allocates nothing.
    /// </summary>
    public abstract ValueTask WaitAsync();

    /// <summary>
    /// Wakes the waiter. Any thread; must not be called after the handler has ended, but a late one does no harm.
    /// </summary>
    public abstract void Notify();

    /// <summary>
    /// Streams only: makes the call be over with a status (the first one counts), whatever its handler waits for.
    /// Any thread, while the call is known to run (<see cref="StreamSet"/>).
    /// </summary>
    public abstract void End(RpcCode code, string message);

    /// <summary>Copies a whole answer message. Large ones should rather be sent in parts with flushes between.</summary>
    public void Write(ReadOnlySpan<byte> message)
    {
        BeginMessage(message.Length);
        Append(message);
    }

    /// <summary>
    /// Copies messages that already carry their five-byte prefix (uncompressed), whole ones, one behind the other.
    /// Where <see cref="TakesFrameParts"/>, a piece may also end inside a message that the next piece goes on with.
    /// </summary>
    /// <param name="frames">The bytes; tell how many messages they were by <see cref="CountFrames"/>.</param>
    public virtual void WriteFrames(ReadOnlySpan<byte> frames)
    {
        while (!frames.IsEmpty)
        {
            int length = System.Buffers.Binary.BinaryPrimitives.ReadInt32BigEndian(frames[1..]);
            Write(frames.Slice(RpcFrame.HeaderSize, length));
            frames = frames[(RpcFrame.HeaderSize + length)..];
        }
    }

    /// <summary>See <see cref="WriteFrames"/>.</summary>
    public virtual bool TakesFrameParts => false;

    /// <summary>So many messages have been written by <see cref="WriteFrames"/> since the last time.</summary>
    public virtual void CountFrames(int messages)
    {
    }

    /// <summary>Ends the call with a status; the first failure counts.</summary>
    public void Fail(RpcCode code, string message)
    {
        if (Status == RpcCode.Ok)
        {
            Status = code;
            StatusMessage = message;
        }
    }

    /// <summary>An answer message has been begun.</summary>
    protected void CountMessage()
    {
        MessagesSent++;
        Method.CountSent(1);
    }

    /// <summary>Makes the object ready for the next call.</summary>
    protected void ResetStatus()
    {
        Status = RpcCode.Ok;
        StatusMessage = "";
        MessagesSent = 0;
    }
}
