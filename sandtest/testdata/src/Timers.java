import java.util.concurrent.*;
public class Timers {
    public static void main(String[] args) throws Exception {
        ScheduledExecutorService pool = Executors.newScheduledThreadPool(2);
        long start = System.nanoTime();
        CountDownLatch ticks = new CountDownLatch(5);
        pool.scheduleAtFixedRate(() -> {
            System.out.println("tick " + TimeUnit.NANOSECONDS.toSeconds(System.nanoTime() - start));
            ticks.countDown();
        }, 1, 10, TimeUnit.SECONDS);
        ScheduledFuture<Long> minute = pool.schedule(() -> System.nanoTime() - start, 1, TimeUnit.MINUTES);
        ticks.await();
        System.out.println("minute " + TimeUnit.NANOSECONDS.toMillis(minute.get()));
        pool.shutdownNow();
    }
}
