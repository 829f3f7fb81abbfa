// NullService: calls that do nothing, to weigh the real ones against (HostOptions.NullMethods; the executable turns it on
// by the variable CAIRN_NULL_METHODS=1, for tests/Cluster/AllocationTests). Never served otherwise.
using System;
using System.Threading;
using System.Threading.Tasks;
using System.Threading.Tasks.Sources;
using Cairn.Core.Protocol;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>Two methods: one answers at once, as a range does, one after a sleep, as a put does.</summary>
internal static class NullService
{
    private const int AnswerBytes = 280;

    /// <summary>The same table with the two methods added.</summary>
    public static RpcTable AddTo(RpcTable table)
    {
        byte[] answer = new byte[AnswerBytes];
        var pause = new Pause();
        return new RpcTable(
        [
            .. table.Methods,
            new RpcMethod("cairn.Null", "AtOnce", RpcKind.Unary, null, call =>
            {
                call.ReleaseRequest();
                call.Write(answer);
                return RpcStep.Done;
            }),
            new RpcMethod("cairn.Null", "Later", RpcKind.Unary, null, call =>
            {
                call.ReleaseRequest();
                return new RpcStep(pause.Start(), (c, _, _) =>
                {
                    c.Write(answer);
                    return RpcStep.Done;
                }, pause);
            }),
        ]);
    }

    /// <summary>
    /// A wait that ends on a pool thread and allocates nothing; one call at a time. It goes round the pool often
    /// enough that the call has always gone to sleep meanwhile, as it does behind a sync of the log.
    /// </summary>
    private sealed class Pause : IValueTaskSource<ErrorCode>, IThreadPoolWorkItem
    {
        private const int Rounds = 50;
        private ManualResetValueTaskSourceCore<ErrorCode> _source;
        private int _left;

        public ValueTask<ErrorCode> Start()
        {
            _source.Reset();
            _left = Rounds;
            _ = ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
            return new ValueTask<ErrorCode>(this, _source.Version);
        }

        public void Execute()
        {
            if (--_left > 0)
            {
                _ = ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
                return;
            }

            _source.SetResult(ErrorCode.None);
        }

        public ErrorCode GetResult(short token) => _source.GetResult(token);

        public ValueTaskSourceStatus GetStatus(short token) => _source.GetStatus(token);

        public void OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags)
            => _source.OnCompleted(continuation, state, token, flags);
    }
}
